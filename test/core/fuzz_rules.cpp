// fuzz_rules.cpp
//    libFuzzer target: any JSON, or any events, as rules over any part of a shop. Rules are sound or the path says
//    where they are not; a query has nothing of their text in it.
#include <cstdio>
#include <cstdlib>

#include "rules_fixture.hpp"

using namespace rules_fixture;

namespace {

void require(bool ok, const std::string &what) {
	if (ok)
		return;
	std::fprintf(stderr, "broken: %s\n", what.c_str());
	std::abort();
}

// Bytes as events: a kind, and for those with a text its length and the text.
void raw_events(const uint8_t *data, size_t size, Events &events) {
	for (size_t at = 0; at < size;) {
		const uint8_t kind = data[at++] % (CSEG_JSON_END + 2);
		std::string text;
		if (kind == CSEG_JSON_NUMBER || kind == CSEG_JSON_STRING || kind == CSEG_JSON_KEY) {
			const size_t len = at < size ? std::min<size_t>(data[at], size - at - 1) : 0;
			at = std::min(at + 1, size);
			text.assign(reinterpret_cast<const char *>(data + at), len);
			at += len;
		}
		events.add(static_cast<CsegJsonKind>(kind), std::move(text));
	}
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
	if (size < 3)
		return 0;
	const unsigned have = data[0] | data[1] << 8;
	const Shop shop(have & 0x3fff, 2 + data[2] % 9);
	const std::string_view rest(reinterpret_cast<const char *>(data + 3), size - 3);
	const bool raw = (have & 0x8000) != 0;
	Events events;
	if (raw)
		raw_events(data + 3, size - 3, events);
	else if (!Reader(rest, events).read())
		return 0;
	const Result result = compile(events.list.data(), events.list.size(), shop.schema);
	require(result.code == CSEG_OK || (raw && result.code == CSEG_BUG), "code " + std::to_string(result.code));
	if (result.code != CSEG_OK)
		return 0;
	if (result.fault != CSEG_RULE_SOUND) {
		require(!result.path.empty() && result.path[0] == '$' && !result.message.empty(), "no path or message");
		require(result.sql.empty() && result.params.empty(), "a query of rules that are not sound");
		return 0;
	}
	require(result.broken.empty(), result.broken + "\n" + result.sql);
	// The same again; nothing depends on anything else.
	const Result again = compile(events.list.data(), events.list.size(), shop.schema);
	require(again.sql == result.sql && again.params == result.params, "another query the second time");
	return 0;
}
