// rules_fixture.hpp
//    For the tests of rules: JSON texts as events, a shop's sources as a schema, and what any compiled query must be.
#pragma once

#include <cctype>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/core.h"

namespace rules_fixture {

// ---- JSON -------------------------------------------------------------------------------------------------------

struct Events {
	std::vector<CsegJsonEvent> list;
	std::deque<std::string> texts;

	void add(CsegJsonKind kind, std::string text = {}) {
		const std::string &kept = texts.emplace_back(std::move(text));
		list.push_back({{kept.data(), kept.size()}, static_cast<uint8_t>(kind)});
	}
};

// Reads JSON as jsonb would hand it on: numbers in full, escapes resolved. False where it is no JSON.
class Reader {
public:
	Reader(std::string_view json, Events &events) : rest(json), events(events) {}

	bool read() {
		if (!value(0))
			return false;
		blank();
		return rest.empty();
	}

private:
	void blank() {
		while (!rest.empty() && (rest[0] == ' ' || rest[0] == '\n' || rest[0] == '\t'))
			rest.remove_prefix(1);
	}
	bool take(std::string_view word) {
		blank();
		if (rest.substr(0, word.size()) != word)
			return false;
		rest.remove_prefix(word.size());
		return true;
	}
	bool string(std::string &text) {
		if (!take("\""))
			return false;
		while (!rest.empty() && rest[0] != '"') {
			if (rest[0] == '\\' && rest.size() > 1)
				rest.remove_prefix(1);
			text += rest[0];
			rest.remove_prefix(1);
		}
		return take("\"");
	}
	bool number(std::string &text) {
		if (take("-"))
			text = "-";
		size_t digits = 0;
		for (; !rest.empty() && (std::isdigit(static_cast<unsigned char>(rest[0])) || rest[0] == '.');
			 rest.remove_prefix(1)) {
			if (rest[0] == '.' && (digits == 0 || text.find('.') != std::string::npos))
				return false;
			digits += rest[0] != '.';
			text += rest[0];
		}
		return digits > 0 && text.back() != '.';
	}
	bool members(unsigned depth, bool object) {
		const std::string_view end = object ? "}" : "]";
		if (take(end))
			return true;
		do {
			std::string key;
			if (object) {
				if (!string(key) || !take(":"))
					return false;
				events.add(CSEG_JSON_KEY, std::move(key));
			}
			if (!value(depth + 1))
				return false;
		} while (take(","));
		return take(end);
	}
	bool value(unsigned depth) {
		std::string text;
		if (depth > 500)
			return false;
		if (take("null"))
			return events.add(CSEG_JSON_NULL), true;
		if (take("true"))
			return events.add(CSEG_JSON_TRUE), true;
		if (take("false"))
			return events.add(CSEG_JSON_FALSE), true;
		blank();
		if (!rest.empty() && rest[0] == '"')
			return string(text) && (events.add(CSEG_JSON_STRING, std::move(text)), true);
		const bool object = take("{");
		if (object || take("[")) {
			events.add(object ? CSEG_JSON_OBJECT : CSEG_JSON_ARRAY);
			if (!members(depth, object))
				return false;
			events.add(CSEG_JSON_END);
			return true;
		}
		return number(text) && (events.add(CSEG_JSON_NUMBER, std::move(text)), true);
	}

	std::string_view rest;
	Events &events;
};

// ---- a schema ---------------------------------------------------------------------------------------------------

// What of the shop there is; a bit each, so that a fuzz target can draw it.
enum Have : unsigned {
	have_customers = 1,
	have_orders = 2,
	have_items = 4,
	have_tags = 8,
	have_subscriptions = 16,
	have_events = 32, // clicks, visits, carts, checkouts
	by_email = 64,
	lowest_best = 128,
	cast_keys = 256,
	event_rows = 512, // subscriptions are a row per event
	broken_orders = 1024,
	customer_time = 2048,
	no_email = 4096, // of the customers
	unique_customers = 8192,
	everything = 63 | customer_time | unique_customers,
};

class Shop {
public:
	explicit Shop(unsigned have = everything, uint32_t buckets = 5) {
		static const char *const names[CSEG_SOURCES] = {"s.t0", "s.t1", "s.t2", "s.t3", "s.t4",
														"s.t5", "s.t6", "s.t7", "s.t8"};
		const unsigned needs[CSEG_SOURCES] = {have_customers, have_orders,        have_items,
											  have_tags,      have_subscriptions, have_events,
											  have_events,    have_events,        have_events};
		for (int i = 0; i < CSEG_SOURCES; i++)
			if ((have & needs[i]) != 0)
				schema.relation[i] = names[i];
		if ((have & broken_orders) != 0)
			schema.broken[CSEG_SOURCE_ORDERS] = "it is gone";
		schema.by_email = (have & by_email) != 0;
		schema.rfm_lowest_best = (have & lowest_best) != 0;
		schema.cast_customer_id = schema.cast_email = schema.cast_order_id = (have & cast_keys) != 0;
		schema.rfm_buckets = buckets;
		schema.time_zone = "Europe/Berlin";
		if ((have & have_customers) != 0)
			customers(have);
		if ((have & have_orders) != 0)
			orders();
		if ((have & have_items) != 0)
			items();
		if ((have & have_tags) != 0)
			tags();
		if ((have & have_subscriptions) != 0)
			subscriptions((have & event_rows) != 0);
		if ((have & have_events) != 0)
			events();
		schema.columns = columns.data();
		schema.n_columns = columns.size();
	}
	Shop(const Shop &) = delete;

	CsegRuleSchema schema{};

private:
	void add(CsegRuleSource source, const char *role, CsegColumnClass cls, bool unique = false) {
		const std::string &sql = texts.emplace_back("c" + std::to_string(columns.size()));
		columns.push_back(
			{role, sql.c_str(), "", static_cast<uint8_t>(source), static_cast<uint8_t>(cls), unique, unique});
	}
	void customers(unsigned have) {
		add(CSEG_SOURCE_CUSTOMERS, "customer_id", CSEG_COLUMN_TEXT, (have & unique_customers) != 0);
		if ((have & no_email) == 0)
			add(CSEG_SOURCE_CUSTOMERS, "email", CSEG_COLUMN_TEXT);
		if ((have & customer_time) != 0)
			add(CSEG_SOURCE_CUSTOMERS, "time", CSEG_COLUMN_INSTANT);
		add(CSEG_SOURCE_CUSTOMERS, "name", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_CUSTOMERS, "labels", CSEG_COLUMN_TEXTS);
		add(CSEG_SOURCE_CUSTOMERS, "points", CSEG_COLUMN_NUMBER);
		add(CSEG_SOURCE_CUSTOMERS, "consent", CSEG_COLUMN_BOOLEAN);
		add(CSEG_SOURCE_CUSTOMERS, "birthday", CSEG_COLUMN_LOCAL);
		add(CSEG_SOURCE_CUSTOMERS, "seen_at", CSEG_COLUMN_INSTANT);
	}
	void orders() {
		add(CSEG_SOURCE_ORDERS, "customer_id", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_ORDERS, "email", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_ORDERS, "time", CSEG_COLUMN_INSTANT);
		add(CSEG_SOURCE_ORDERS, "amount", CSEG_COLUMN_NUMBER);
		add(CSEG_SOURCE_ORDERS, "order_id", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_ORDERS, "source", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_ORDERS, "order_tag", CSEG_COLUMN_TEXTS);
	}
	void items() {
		add(CSEG_SOURCE_LINE_ITEMS, "order_id", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_LINE_ITEMS, "quantity", CSEG_COLUMN_NUMBER);
		add(CSEG_SOURCE_LINE_ITEMS, "product_name", CSEG_COLUMN_TEXT);
	}
	void tags() {
		add(CSEG_SOURCE_TAGS, "customer_id", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_TAGS, "customer_tag", CSEG_COLUMN_TEXT);
		add(CSEG_SOURCE_TAGS, "time", CSEG_COLUMN_INSTANT);
		add(CSEG_SOURCE_TAGS, "removed_time", CSEG_COLUMN_INSTANT);
	}
	void subscriptions(bool as_events) {
		add(CSEG_SOURCE_SUBSCRIPTIONS, "customer_id", CSEG_COLUMN_TEXT);
		if (as_events) {
			add(CSEG_SOURCE_SUBSCRIPTIONS, "event", CSEG_COLUMN_TEXT);
			add(CSEG_SOURCE_SUBSCRIPTIONS, "time", CSEG_COLUMN_LOCAL);
		} else {
			add(CSEG_SOURCE_SUBSCRIPTIONS, "started_time", CSEG_COLUMN_INSTANT);
			add(CSEG_SOURCE_SUBSCRIPTIONS, "updated_time", CSEG_COLUMN_INSTANT);
			add(CSEG_SOURCE_SUBSCRIPTIONS, "cancelled_time", CSEG_COLUMN_INSTANT);
		}
		add(CSEG_SOURCE_SUBSCRIPTIONS, "subscription_status", CSEG_COLUMN_TEXT);
	}
	void events() {
		for (CsegRuleSource source :
			 {CSEG_SOURCE_CLICKS, CSEG_SOURCE_VISITS, CSEG_SOURCE_CARTS, CSEG_SOURCE_CHECKOUTS}) {
			add(source, source == CSEG_SOURCE_VISITS ? "email" : "customer_id", CSEG_COLUMN_TEXT);
			add(source, "time", source == CSEG_SOURCE_CARTS ? CSEG_COLUMN_LOCAL : CSEG_COLUMN_INSTANT);
			add(source, "url_path", CSEG_COLUMN_TEXT);
		}
	}

	std::vector<CsegRuleColumn> columns;
	std::deque<std::string> texts;
};

// ---- compiling --------------------------------------------------------------------------------------------------

struct Param {
	CsegRuleType type;
	std::vector<std::string> values;
	bool operator==(const Param &) const = default;
};

struct Result {
	CsegCode code = CSEG_OK;
	CsegRuleFault fault = CSEG_RULE_SOUND;
	std::string path, message, hint;
	std::string sql;
	std::vector<Param> params;
	std::vector<std::string> segments;
	std::optional<std::string> current_state;
	std::string broken; // what the query is and must not be

	bool sound() const { return code == CSEG_OK && fault == CSEG_RULE_SOUND; }
};

// Everything in a query that is not a parameter is a word of this list, a name of the schema, or an alias of the
// compiler's: nothing of the rules is in it.
inline std::string what_is_broken(const CsegRuleQuery &query) {
	static const std::set<std::string> words = {"ALL",
												"AND",
												"ANY",
												"ARRAY",
												"AS",
												"AT",
												"BETWEEN",
												"BY",
												"COLLATE",
												"DISTINCT",
												"EXISTS",
												"FROM",
												"GROUP",
												"ILIKE",
												"IS",
												"JOIN",
												"LEFT",
												"NOT",
												"NULL",
												"ON",
												"OR",
												"ORDER",
												"OVER",
												"SELECT",
												"TIME",
												"TRUE",
												"UNION",
												"WHERE",
												"ZONE",
												"amount",
												"as_of",
												"b",
												"began",
												"bigint",
												"bool_or",
												"c",
												"cancelled",
												"coalesce",
												"count",
												"customer",
												"customer_identity",
												"customer_segmentation",
												"default",
												"e",
												"emptied_at",
												"events",
												"false",
												"first",
												"floor",
												"frequency",
												"i",
												"instance_created_date",
												"items",
												"k",
												"known",
												"lower",
												"m",
												"max",
												"min",
												"monetary",
												"n",
												"num_of_orders",
												"number",
												"numeric",
												"pg_catalog",
												"rank",
												"recency",
												"s",
												"segment_id",
												"started",
												"sum",
												"text",
												"timestamp",
												"total_revenue",
												"true",
												"unnest",
												"updated",
												"v",
												"value",
												"who"};
	static const std::set<std::string> numbered = {"c",        "t",      "holds_",     "orders_",        "clicks_",
												   "visits_",  "carts_", "checkouts_", "subscriptions_", "tags_",
												   "segment_", "rfm_"};
	const std::string_view sql(query.sql.text, query.sql.len);
	size_t at = 0;
	int depth = 0;
	std::set<uint32_t> used;
	for (size_t r = 0; r <= query.n_references; r++) {
		const size_t until = r < query.n_references ? query.references[r].offset : sql.size();
		if (until < at || until > sql.size())
			return "references are out of order";
		for (; at < until; at++) {
			const char c = sql[at];
			depth += c == '(' ? 1 : c == ')' ? -1 : 0;
			if (depth < 0)
				return "parentheses";
			if (c == '$')
				return "a parameter without a reference";
			if (std::isalpha(static_cast<unsigned char>(c)) || c == '_') {
				size_t end = at;
				while (end < until && (std::isalnum(static_cast<unsigned char>(sql[end])) || sql[end] == '_'))
					end++;
				const std::string word(sql.substr(at, end - at));
				const std::string stem = word.substr(0, word.find_last_not_of("0123456789") + 1);
				if (words.count(word) == 0 && (stem == word || numbered.count(stem) == 0))
					return "the word " + word;
				at = end - 1;
			} else if (std::string_view("0123456789 \n()[].,:'\"=<>+-*/@").find(c) == std::string_view::npos) {
				return std::string("the character ") + c;
			}
		}
		if (r == query.n_references)
			break;
		const CsegRuleReference &ref = query.references[r];
		const std::string expected =
			ref.param == 0 ? "customer_segmentation.as_of()" : "$" + std::to_string(ref.param);
		if (ref.param > query.n_params || sql.substr(ref.offset, ref.len) != expected)
			return "a reference to nothing";
		used.insert(ref.param);
		at = ref.offset + ref.len;
	}
	used.erase(0);
	if (depth != 0)
		return "parentheses";
	return used.size() == query.n_params ? "" : "a parameter is not used";
}

inline Result compile(const CsegJsonEvent *events, size_t n, const CsegRuleSchema &schema) {
	Result result;
	CsegRules *rules = nullptr;
	CsegRuleProblem problem;
	CsegError err;
	const auto report = [&] {
		result.fault = problem.fault;
		result.path = problem.path;
		result.message = problem.message;
		result.hint = problem.hint;
	};
	result.code = cseg_rules_parse(&rules, events, n, &schema, &problem, &err);
	if (result.code != CSEG_OK)
		return result;
	const std::unique_ptr<CsegRules, void (*)(void *)> owner(rules, cseg_rules_free);
	report();
	if (!result.sound())
		return result;
	const CsegString *ids;
	size_t n_ids;
	result.code = cseg_rules_segments(rules, &ids, &n_ids, &err);
	std::vector<CsegRuleSegment> segments;
	for (size_t i = 0; i < n_ids; i++) {
		result.segments.emplace_back(ids[i].text, ids[i].len);
		segments.push_back({"s.t9", i % 2 == 0 ? "UTC" : "Asia/Tokyo", i % 3 == 1});
	}
	CsegRuleQuery query;
	result.code = cseg_rules_compile(rules, &schema, segments.data(), &query, &problem, &err);
	if (result.code != CSEG_OK)
		return result;
	report();
	if (!result.sound())
		return result;
	result.sql.assign(query.sql.text, query.sql.len);
	for (size_t i = 0; i < query.n_params; i++) {
		Param &param = result.params.emplace_back();
		param.type = static_cast<CsegRuleType>(query.params[i].type);
		for (size_t j = 0; j < query.params[i].n; j++)
			param.values.emplace_back(query.params[i].values[j].text, query.params[i].values[j].len);
	}
	if (query.current_state != nullptr)
		result.current_state = query.current_state;
	result.broken = what_is_broken(query);
	return result;
}

inline Result compile(std::string_view json, const CsegRuleSchema &schema) {
	Events events;
	Result result;
	if (!Reader(json, events).read()) {
		result.code = CSEG_BUG;
		result.message = "the test's JSON is none";
		return result;
	}
	return compile(events.list.data(), events.list.size(), schema);
}

} // namespace rules_fixture
