// rules_json.cpp
//    JSON events to a tree, within bounds.
#include "rules.hpp"

namespace cseg::rules {
namespace {

bool is_number(const std::string &text) {
	size_t i = !text.empty() && text[0] == '-' ? 1 : 0;
	size_t digits = 0;
	bool point = false;
	for (; i < text.size(); i++) {
		if (text[i] == '.' && !point && digits > 0)
			point = true;
		else if (text[i] >= '0' && text[i] <= '9')
			digits++;
		else
			return false;
	}
	return digits > 0 && text.back() != '.';
}

class Reader {
public:
	Reader(const CsegJsonEvent *events, size_t n) : events(events), n(n) {}

	Json read() {
		Json json = value(0);
		if (at != n)
			throw std::invalid_argument("JSON events go on after the value");
		return json;
	}

private:
	const CsegJsonEvent &next() {
		if (at == n)
			throw std::invalid_argument("JSON events end within a value");
		return events[at++];
	}

	static std::string text_of(const CsegJsonEvent &event) { return {event.string.text, event.string.len}; }

	bool ends() {
		if (at < n && events[at].kind == CSEG_JSON_END) {
			at++;
			return true;
		}
		return false;
	}

	// One level of recursion for each level of depth.
	Json value(unsigned depth) {
		const CsegJsonEvent &event = next();
		Json json;
		json.kind = static_cast<CsegJsonKind>(event.kind);
		switch (event.kind) {
		case CSEG_JSON_NULL:
		case CSEG_JSON_FALSE:
		case CSEG_JSON_TRUE:
			break;
		case CSEG_JSON_STRING:
			json.text = text_of(event);
			break;
		case CSEG_JSON_NUMBER:
			json.text = text_of(event);
			if (!is_number(json.text))
				throw std::invalid_argument("a JSON number is no decimal number");
			break;
		case CSEG_JSON_ARRAY:
			check_depth(depth);
			while (!ends())
				json.items.push_back(value(depth + 1));
			break;
		case CSEG_JSON_OBJECT:
			check_depth(depth);
			while (!ends()) {
				const CsegJsonEvent &key = next();
				if (key.kind != CSEG_JSON_KEY)
					throw std::invalid_argument("a JSON object has a value without a key");
				json.keys.push_back(text_of(key));
				json.items.push_back(value(depth + 1));
			}
			break;
		default:
			throw std::invalid_argument("JSON events are out of order");
		}
		return json;
	}

	static void check_depth(unsigned depth) {
		if (depth >= CSEG_RULES_DEPTH)
			throw Unsound{CSEG_RULE_INVALID, "$",
						  "nested deeper than " + std::to_string(CSEG_RULES_DEPTH) + " levels",
						  "Say the same with fewer levels of AND, OR and NOT."};
	}

	const CsegJsonEvent *events;
	size_t n;
	size_t at = 0;
};

} // namespace

Json read_json(const CsegJsonEvent *events, size_t n) {
	return Reader(events, n).read();
}

} // namespace cseg::rules
