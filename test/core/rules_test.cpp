// rules_test.cpp
//    Rules: what is refused and with which path, what queries are made of, and that they don't hold the rules' text.
#include <gtest/gtest.h>

#include <random>

#include "rules_fixture.hpp"

using namespace rules_fixture;

namespace {

std::string purchase(const std::string &action, const std::string &time, const std::string &more = "") {
	return R"({"type":"user_action","definition":{"action":{"type":"made_purchase",)" + action + R"(},"time":{)" +
		   time + "}" + more + "}}";
}
const std::string kEver = R"("comparator":"over_all_time")";
const std::string kSome = R"("comparator":"greater_than","value":0)";

std::string property(const std::string &name, const std::string &test) {
	return R"({"type":"user_property","definition":{"property":{"property":")" + name + "\"," + test + "}}}";
}

Result compiled(const std::string &json, unsigned have = everything) {
	const Shop shop(have);
	Result result = compile(json, shop.schema);
	EXPECT_EQ(result.code, CSEG_OK) << json << ": " << result.message;
	EXPECT_EQ(result.broken, "") << result.sql;
	return result;
}

Result sound(const std::string &json, unsigned have = everything) {
	Result result = compiled(json, have);
	EXPECT_TRUE(result.sound()) << json << ": " << result.path << ": " << result.message;
	return result;
}

void refused(const std::string &json, const std::string &path, const std::string &message,
			 unsigned have = everything) {
	const Result result = compiled(json, have);
	EXPECT_EQ(result.fault, CSEG_RULE_INVALID) << json;
	EXPECT_EQ(result.path, path) << json;
	EXPECT_NE(result.message.find(message), std::string::npos) << json << ": " << result.message;
}

bool has(const std::string &text, const std::string &part) {
	return text.find(part) != std::string::npos;
}

// ---- JSON -------------------------------------------------------------------------------------------------------

TEST(RulesJson, EventsOutOfOrderAreABug) {
	const Shop shop;
	const auto code = [&](std::initializer_list<std::pair<int, const char *>> events) {
		Events list;
		for (const auto &[kind, text] : events)
			list.add(static_cast<CsegJsonKind>(kind), text);
		return compile(list.list.data(), list.list.size(), shop.schema).code;
	};
	EXPECT_EQ(code({}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_END, ""}}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_KEY, "a"}}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_END + 1, ""}}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_OBJECT, ""}}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_OBJECT, ""}, {CSEG_JSON_KEY, "a"}}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_OBJECT, ""}, {CSEG_JSON_NULL, ""}, {CSEG_JSON_END, ""}}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_ARRAY, ""}, {CSEG_JSON_KEY, "a"}, {CSEG_JSON_END, ""}}), CSEG_BUG);
	EXPECT_EQ(code({{CSEG_JSON_NULL, ""}, {CSEG_JSON_NULL, ""}}), CSEG_BUG);
	for (const char *number : {"", "-", ".5", "5.", "1e5", "+1", "1.2.3", "0x1", "NaN", " 1"})
		EXPECT_EQ(code({{CSEG_JSON_NUMBER, number}}), CSEG_BUG) << number;
	for (const char *number : {"0", "-0", "1.50", "-12.5", "123456789012345678901234567890"})
		EXPECT_EQ(code({{CSEG_JSON_NUMBER, number}}), CSEG_OK) << number;
}

TEST(RulesJson, DepthIsBounded) {
	const auto nested = [](int levels) {
		std::string json = property("name", R"("comparator":"is_set")");
		for (int i = 0; i < levels; i++)
			json = R"({"type":"NOT","filters":[)" + json + "]}";
		return json;
	};
	sound(nested(30)); // two levels each, and three of the filter itself
	refused(nested(31), "$", "nested deeper than 64 levels");
	refused(nested(200), "$", "nested deeper than 64 levels");
}

TEST(RulesJson, ConditionsAreBounded) {
	const auto list = [](const std::string &one, int n) {
		std::string json;
		for (int i = 0; i < n; i++)
			json += (i > 0 ? "," : "") + one;
		return json;
	};
	const std::string filter = property("name", R"("comparator":"is_set")");
	sound(R"({"type":"OR","filters":[)" + list(filter, CSEG_RULES_FILTERS) + "]}");
	refused(R"({"type":"OR","filters":[)" + list(filter, CSEG_RULES_FILTERS + 1) + "]}", "$.filters[200]",
			"more than 200");
	refused(purchase(kSome, kEver,
					 R"(,"properties":[)" +
						 list(R"({"property":"source","comparator":"is_set"})", CSEG_RULES_FILTERS) + "]"),
			"$.definition.properties[199]", "more than 200");
}

// ---- what is refused --------------------------------------------------------------------------------------------

TEST(RulesParse, PathsTellWhere) {
	refused("[]", "$", "expected an object, got an array");
	refused("{}", "$", "key \"type\" is missing");
	refused(R"({"type":"XOR"})", "$.type", "\"XOR\" is not one of");
	refused(R"({"type":"AND","filters":[]})", "$.filters", "at least one");
	refused(R"({"type":"AND","filters":[{"type":"OR","filters":[{"type":"NOT","filters":[7]}]}]})",
			"$.filters[0].filters[0].filters[0]", "got 7");
	refused(R"({"type":"whale_gpt","definition":{"sql":"SELECT 1"}})", "$.type", "can't be evaluated");
	refused(R"({"type":"user_action","definition":{}})", "$.definition", "\"action\" is missing");
	refused(purchase(R"("comparator":"contain","value":1)", kEver), "$.definition.action.comparator", "not one of");
	refused(purchase(R"("comparator":"equal","value":"1")", kEver), "$.definition.action.value", "expected a number");
	refused(purchase(R"("comparator":"between","value":[2,1])", kEver), "$.definition.action", "there is nothing");
	refused(purchase(kSome, R"("comparator":"under","value":1,"unit":"days")"), "$.definition.time.unit", "\"days\"");
	refused(purchase(kSome, R"("comparator":"under","value":-1,"unit":"day")"), "$.definition.time.value",
			"not negative");
	refused(purchase(kSome, R"("comparator":"within","value1":1,"value2":0.5,"unit":"day")"),
			"$.definition.time.value2", "whole number");
	refused(purchase(kSome, kEver, R"(,"property":{"property":"colour","comparator":"is_set"})"),
			"$.definition.property.property", "\"colour\"");
	refused(
		purchase(
			kSome, kEver,
			R"(,"properties":[{"property":"source","comparator":"is_set"},{"property":"source","comparator":"between"}])"),
		"$.definition.properties[1].comparator", "\"between\"");
	refused(purchase(kSome, kEver, R"(,"propertys":[])"), "$.definition", "unknown key \"propertys\"");
	refused(property("name", R"("comparator":"is_in","value":["a",null])"), "$.definition.property.value[1]",
			"got null");
	refused(property("consent", R"("comparator":"equal","value":"yes")"), "$.definition.property.value",
			"true or false");
	refused(property("birthday", R"("comparator":"before","value":"yesterday")"), "$.definition.property.value",
			"ISO 8601");
	refused(
		R"({"type":"rfm_segment","definition":{"properties":[{"property":"customer_rfm_recency","comparator":"is_in","value":[5,6]}]}})",
		"$.definition.properties[0].value[1]", "from 1 to 5");
}

TEST(RulesParse, MissingSourcesAreNamed) {
	const auto missing = [](const std::string &json, unsigned have, const std::string &source) {
		const Result result = compiled(json, have);
		EXPECT_EQ(result.fault, CSEG_RULE_NO_SOURCE) << json;
		EXPECT_TRUE(has(result.message + result.hint, '"' + source + '"') || has(result.hint, '\'' + source + '\''))
			<< result.message;
		EXPECT_TRUE(has(result.hint, "set_source")) << result.hint;
	};
	missing(purchase(kSome, kEver), everything & ~have_orders, "orders");
	missing(purchase(kSome, kEver), everything | broken_orders, "orders");
	missing(property("name", R"("comparator":"is_set")"), everything & ~have_customers, "customers");
	missing(
		R"({"type":"rfm_segment","definition":{"properties":[{"property":"customer_rfm_recency","comparator":"is_in","value":[5]}]}})",
		have_customers, "orders");
	for (const char *action : {"clicked_ad", "visited_url", "active_on_site", "added_to_cart", "started_checkout"})
		missing(R"({"type":"user_action","definition":{"action":{"type":")" + std::string(action) +
					R"(","comparator":"equal","value":0},"time":{"comparator":"over_all_time"}}})",
				everything & ~have_events,
				action == std::string("clicked_ad")         ? "clicks"
				: action == std::string("added_to_cart")    ? "carts"
				: action == std::string("started_checkout") ? "checkouts"
															: "visits");
	missing(R"({"type":"segment_relation","definition":{"property":{"value":"a","comparator":"is"}}})", 0,
			"customers");
}

// A source that is broken stops only the rules that need it.
TEST(RulesParse, BrokenSourcesStopNobodyElse) {
	const std::string json = property("name", R"("comparator":"is_set")");
	Shop shop(have_customers | have_events);
	shop.schema.broken[CSEG_SOURCE_CLICKS] = "it is gone";
	EXPECT_TRUE(compile(json, shop.schema).sound());
}

TEST(RulesParse, Dates) {
	const auto type_of = [](const std::string &date) {
		const Result result = compiled(purchase(kSome, R"("comparator":"before","value":")" + date + '"'));
		if (!result.sound())
			return -1;
		for (const Param &param : result.params)
			if (param.values[0] == date)
				return static_cast<int>(param.type);
		return -2;
	};
	for (const char *date : {"2025-08-25", "0001-01-01", "9999-12-31", "2024-02-29", "2000-02-29"})
		EXPECT_EQ(type_of(date), CSEG_PARAM_DATE) << date;
	for (const char *date :
		 {"2025-08-25T11:08", "2025-08-25 11:08:39", "2025-08-25T23:59:59.999999", "2025-08-25T00:00:00.1"})
		EXPECT_EQ(type_of(date), CSEG_PARAM_LOCAL) << date;
	for (const char *date :
		 {"2025-08-25T11:08Z", "2025-08-25T11:08:39+02:00", "2025-08-25 11:08:39.123-0530", "2025-08-25T11:08+14"})
		EXPECT_EQ(type_of(date), CSEG_PARAM_INSTANT) << date;
	for (const char *date : {"",
							 "2025",
							 "2025-8-25",
							 "2025-02-29",
							 "1900-02-29",
							 "2025-00-01",
							 "2025-04-31",
							 "0000-01-01",
							 "10000-01-01",
							 "2025-08-25T",
							 "2025-08-25T24:00",
							 "2025-08-25T11:60",
							 "2025-08-25T11:08:60",
							 "2025-08-25T11:08:39.",
							 "2025-08-25T11:08:39.1234567",
							 "2025-08-25T11:08+2",
							 "2025-08-25T11:08+02:",
							 "2025-08-25T11:08+15:00",
							 "2025-08-25T11:08ZZ",
							 "2025-08-25 ",
							 " 2025-08-25",
							 "2025-08-25T11:08:39 Europe/Berlin",
							 "today",
							 "infinity",
							 "2025-08-25'; DROP TABLE x"})
		EXPECT_EQ(type_of(date), -1) << date;
}

// ---- what is made of them ---------------------------------------------------------------------------------------

TEST(RulesSql, PatternsAreLiteral) {
	const auto pattern = [](const std::string &comparator, const std::string &value) {
		const Result result =
			sound(property("name", R"("comparator":")" + comparator + R"(","value":")" + value + '"'));
		for (const Param &param : result.params)
			if (has(param.values[0], "x"))
				return param.values[0];
		return std::string("none");
	};
	EXPECT_EQ(pattern("contain", "x"), "%x%");
	EXPECT_EQ(pattern("not_contain", "x%_y"), "%x\\%\\_y%");
	EXPECT_EQ(pattern("start_with", "\\\\x"), "\\\\x%");
	EXPECT_EQ(pattern("end_with", "x%"), "%x\\%");
	EXPECT_EQ(pattern("equal", "x%_\\\\"), "x%_\\");
}

TEST(RulesSql, ValuesAreParametersEachOnce) {
	const Result result =
		sound(R"({"type":"OR","filters":[)" + property("name", R"("comparator":"equal","value":"it's $1 \" -- x")") +
			  "," + property("name", R"("comparator":"not_equal","value":"it's $1 \" -- x")") + "," +
			  property("points", R"("comparator":"between","value":[-1.5,20])") + "]}");
	EXPECT_FALSE(has(result.sql, "it's")) << result.sql;
	EXPECT_FALSE(has(result.sql, "1.5")) << result.sql;
	int times = 0;
	for (const Param &param : result.params)
		times += param.values[0] == "it's $1 \" -- x";
	EXPECT_EQ(times, 1);
}

TEST(RulesSql, OneJoinForEqualParts) {
	const std::string one = purchase(kSome, R"("comparator":"under","value":90,"unit":"day")");
	const Result result = sound(R"({"type":"AND","filters":[)" + one + "," + one + "," +
								property("name", R"("comparator":"is_set")") + "]}");
	EXPECT_TRUE(has(result.sql, "orders_2"));
	EXPECT_FALSE(has(result.sql, "orders_3"))
		<< result.sql; // that of the filters, and that of all time for the measures
}

TEST(RulesSql, NotIsPushedDown) {
	const std::string some = purchase(kSome, kEver);
	const Result never = sound(R"({"type":"NOT","filters":[)" + some + "]}");
	EXPECT_TRUE(has(never.sql, "coalesce(orders_1.events, 0) <= ")) << never.sql;
	const Result twice = sound(R"({"type":"NOT","filters":[{"type":"NOT","filters":[)" + some + "]}]}");
	EXPECT_EQ(twice.sql, sound(some).sql);
	const std::string name = property("name", R"("comparator":"equal","value":"a")"),
					  points = property("points", R"("comparator":"greater_than","value":1)");
	EXPECT_EQ(sound(R"({"type":"NOT","filters":[)" + name + "," + points + "]}").sql,
			  sound(R"({"type":"AND","filters":[{"type":"NOT","filters":[)" + name +
					R"(]},{"type":"NOT","filters":[)" + points + "]}]}")
				  .sql);
}

TEST(RulesSql, CountsThatHoldForNone) {
	const auto takes_none = [](const std::string &test) {
		return has(sound(purchase(test, kEver)).sql, "WHERE coalesce(orders_1.events, 0)");
	};
	EXPECT_TRUE(takes_none(R"("comparator":"equal","value":0)"));
	EXPECT_TRUE(takes_none(R"("comparator":"equal","value":-0.00)"));
	EXPECT_TRUE(takes_none(R"("comparator":"not_equal","value":1)"));
	EXPECT_TRUE(takes_none(R"("comparator":"less_than","value":0.1)"));
	EXPECT_TRUE(takes_none(R"("comparator":"greater_than","value":-1)"));
	EXPECT_TRUE(takes_none(R"("comparator":"between","value":[0,3])"));
	EXPECT_FALSE(takes_none(R"("comparator":"equal","value":1)"));
	EXPECT_FALSE(takes_none(R"("comparator":"not_equal","value":0)"));
	EXPECT_FALSE(takes_none(R"("comparator":"less_than","value":0)"));
	EXPECT_FALSE(takes_none(R"("comparator":"greater_or_equal","value":0.001)"));
	EXPECT_FALSE(takes_none(R"("comparator":"between","value":[1,3])"));
}

// What has no history is told with the filter that asks for it first.
TEST(RulesSql, CurrentState) {
	EXPECT_EQ(sound(purchase(kSome, kEver)).current_state, std::nullopt);
	EXPECT_EQ(sound(property("name", R"("comparator":"is_set")")).current_state, "$");
	EXPECT_EQ(sound(R"({"type":"AND","filters":[)" + purchase(kSome, kEver) + "," +
					property("points", R"("comparator":"is_set")") + "]}")
				  .current_state,
			  "$.filters[1]");
	EXPECT_EQ(sound(property("customer_tag", R"("comparator":"equal","value":"vip")")).current_state, std::nullopt);
	EXPECT_EQ(sound(property("total_orders_number", R"("comparator":"equal","value":1)")).current_state,
			  std::nullopt);
	// Who never bought is only known of customers of whom it is known since when there are.
	EXPECT_EQ(sound(purchase(R"("comparator":"equal","value":0)", kEver)).current_state, std::nullopt);
	EXPECT_EQ(sound(purchase(R"("comparator":"equal","value":0)", kEver), everything & ~customer_time).current_state,
			  "$");
	EXPECT_EQ(sound(purchase(kSome, kEver), everything & ~customer_time).current_state, std::nullopt);
}

TEST(RulesSql, Segments) {
	const auto relation = [](const std::string &id, const char *comparator) {
		return R"({"type":"segment_relation","definition":{"property":{"value":")" + id + R"(","comparator":")" +
			   comparator + "\"}}}";
	};
	const Result result = sound(R"({"type":"OR","filters":[)" + relation("b", "is") + "," + relation("a", "is_not") +
								"," + relation("b", "is_not") + "]}");
	EXPECT_EQ(result.segments, (std::vector<std::string>{"b", "a"}));
	EXPECT_TRUE(has(result.sql, "segment_2"));
	EXPECT_FALSE(has(result.sql, "segment_3"));
}

// ---- properties that hold for any rules -------------------------------------------------------------------------

class Random {
public:
	explicit Random(uint64_t seed) : engine(seed) {}
	size_t below(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(engine); }
	template <class T> const T &of(const std::vector<T> &list) { return list[below(list.size())]; }

	std::string text() {
		return of<std::string>({"a", "", "100%", "x'; --", "$1", "{a,b}", "\\\"q\\\"", "\x01p1\x01", "\xc3\xa4"});
	}
	std::string number() { return of<std::string>({"0", "1", "-1", "2.50", "99999999999999999999"}); }
	std::string count() {
		return R"("comparator":")" +
			   of<std::string>(
				   {"greater_than", "less_than", "equal", "not_equal", "greater_or_equal", "less_or_equal"}) +
			   R"(","value":)" + number();
	}
	std::string string_test() {
		const std::string negative = below(2) == 0 ? "not_" : "";
		return R"("comparator":")" + negative + of<std::string>({"equal", "contain", "start_with", "end_with"}) +
			   R"(","value":")" + text() + '"';
	}
	std::string time() {
		const std::string unit = of<std::string>({"hour", "day", "week", "month", "year"});
		switch (below(5)) {
		case 0:
			return kEver;
		case 1:
			return R"("comparator":"under","value":)" + std::to_string(below(100)) + R"(,"unit":")" + unit + '"';
		case 2:
			return R"("comparator":"within","value1":)" + std::to_string(below(100)) + R"(,"value2":)" +
				   std::to_string(below(100)) + R"(,"unit":")" + unit + '"';
		case 3:
			return R"("comparator":"between","value1":"2025-01-01","value2":"2025-08-25T11:08:39Z")";
		default:
			return R"("comparator":"after","value":"2025-01-01T10:00")";
		}
	}
	std::string filter() {
		switch (below(7)) {
		case 0:
			return purchase(count(), time());
		case 1:
			return purchase(count(), time(),
							R"(,"properties":[{"property":"product_name",)" + string_test() +
								R"(},{"property":"items_number",)" + count() + R"(},{"property":"order_tag",)" +
								string_test() + "}]");
		case 2:
			return R"({"type":"user_action","definition":{"action":{"type":")" +
				   of<std::string>({"clicked_ad", "active_on_site", "added_to_cart", "started_subscription",
									"new_customer_purchase", "returning_customer_purchase"}) +
				   "\"," + count() + R"(},"time":{)" + time() + "}}}";
		case 3:
			return property(of<std::string>({"name", "labels", "customer_tag"}), string_test());
		case 4:
			return property(
				of<std::string>({"points", "total_orders_number", "customer_total_spend", "customer_aov"}), count());
		case 5:
			return R"({"type":"segment_relation","definition":{"property":{"value":"s)" + std::to_string(below(3)) +
				   R"(","comparator":")" + of<std::string>({"is", "is_not"}) + "\"}}}";
		default:
			return R"({"type":"rfm_segment","definition":{"properties":[{"property":"customer_rfm_monetary","comparator":"is_in","value":[)" +
				   std::to_string(1 + below(5)) + "]}]}}";
		}
	}
	std::string query(int depth) {
		if (depth == 0)
			return filter();
		std::string json;
		for (size_t i = 0, n = 1 + below(3); i < n; i++)
			json += (i > 0 ? "," : "") + query(depth - 1);
		return R"({"type":")" + of<std::string>({"AND", "OR", "NOT"}) + R"(","filters":[)" + json + "]}";
	}

private:
	std::mt19937_64 engine;
};

TEST(RulesProperties, NothingOfTheRulesGetsIntoTheQuery) {
	Random random(20250825);
	for (int i = 0; i < 500; i++) {
		unsigned have = everything;
		if (random.below(3) == 0)
			have ^= by_email | cast_keys;
		if (random.below(3) == 0)
			have ^= unique_customers | customer_time;
		const std::string json = random.query(static_cast<int>(random.below(4)));
		const Result result = sound(json, have);
		if (HasFailure())
			return;
		EXPECT_FALSE(result.params.empty());
		// NOT NOT and a single AND change nothing.
		EXPECT_EQ(sound(R"({"type":"NOT","filters":[{"type":"NOT","filters":[)" + json + "]}]}", have).params,
				  result.params);
		EXPECT_EQ(sound(R"({"type":"AND","filters":[)" + json + "]}", have).sql, result.sql);
	}
}

} // namespace
