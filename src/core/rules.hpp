// rules.hpp
//    The model of a segment's rules: what the parser makes of JSON and the compiler makes a query of.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bytes.hpp"

namespace cseg::rules {

// ---- JSON -------------------------------------------------------------------------------------------------------

struct Json {
	CsegJsonKind kind = CSEG_JSON_NULL;
	std::string text;              // of a number or a string
	std::vector<Json> items;       // of an array; the values of an object
	std::vector<std::string> keys; // of an object, one per item
};

// Rules that are not sound, thrown from where it is noticed to cseg_rules_parse or cseg_rules_compile.
struct Unsound {
	CsegRuleFault fault;
	std::string path;
	std::string message;
	std::string hint;
};

Json read_json(const CsegJsonEvent *events, size_t n);

// ---- the model --------------------------------------------------------------------------------------------------

enum class Comparator {
	equal,
	contain,
	is_in,
	start_with,
	end_with,
	is_set,
	greater_than,
	less_than,
	greater_or_equal,
	less_or_equal,
	between,
	array_contains,
	over_all_time,
	under,
	over,
	within,
	before,
	after,
	is
};

enum class Unit { hour, day, week, month, year };

struct Moment {
	std::string text;
	CsegRuleType type = CSEG_PARAM_DATE; // DATE, LOCAL or INSTANT
};

// A condition on a point in time.
struct TimeTest {
	Comparator comparator = Comparator::over_all_time;
	uint64_t longer = 0;  // ago, of under, over, within
	uint64_t shorter = 0; // ago, of within
	Unit unit = Unit::day;
	Moment first; // of between, before, after
	Moment last;  // of between
};

// A condition on a number. The values are decimal numbers as text; between has two.
struct NumberTest {
	Comparator comparator = Comparator::equal;
	bool negative = false;
	std::vector<std::string> values;

	bool holds_for_zero() const;
};

// Where the value of a property comes from.
enum class Place {
	column,               // of the event, or of the customer
	items,                // a column of the order's line items
	items_number,         // how many there are, by line items
	tags,                 // of the source tags
	orders_number,        // over all time
	spend,                // over all time
	average_order,        // over all time
	active_subscriptions, // now
};

struct PropertyTest {
	Place place = Place::column;
	const CsegRuleColumn *column = nullptr; // of column, items and tags
	CsegColumnClass cls = CSEG_COLUMN_TEXT;
	Comparator comparator = Comparator::equal; // a negative one as its positive and `negative`
	bool negative = false;
	std::vector<std::string> values;
	TimeTest time;
};

enum class Action {
	made_purchase,
	new_customer_purchase,
	returning_customer_purchase,
	clicked_ad,
	visited_url,
	active_on_site,
	started_subscription,
	updated_subscription,
	cancelled_subscription,
	added_to_cart,
	started_checkout
};

enum class Score { recency, frequency, monetary };

enum class NodeKind { all, any, none, action, property, segment, rfm };

struct Node {
	NodeKind kind = NodeKind::all;
	std::string path;
	std::vector<Node> children; // of all, any, none

	Action action = Action::made_purchase; // of an action
	CsegRuleSource source = CSEG_SOURCE_ORDERS;
	NumberTest count;
	TimeTest time;
	std::vector<PropertyTest> properties; // of an action, and the one of a property

	size_t segment = 0; // index into Model::segments
	bool negative = false;

	Score score = Score::recency; // of rfm
	std::vector<std::string> scores;
};

struct Model {
	Node root;
	std::vector<std::string> segments; // that it asks for, each once
	std::string current_state;         // path of the first filter on what has no history; empty if there is none
};

// What a schema says of a source; throws Unsound, CSEG_RULE_NO_SOURCE, where it is needed and not there.
class Schema {
public:
	explicit Schema(const CsegRuleSchema &s) : given(s) {}
	const CsegRuleSchema &given;

	bool has(CsegRuleSource source) const {
		check(source);
		return given.relation[source] != nullptr;
	}
	void check(CsegRuleSource source) const; // a source that is set and can't be used is not taken for none
	const CsegRuleColumn *column(CsegRuleSource source, std::string_view role) const;
	void need(CsegRuleSource source, const std::string &path, const std::string &what) const;
	const CsegRuleColumn &need(CsegRuleSource source, const char *role, const std::string &path) const;
	std::string roles(CsegRuleSource source) const;
	const char *identity_role() const { return given.by_email ? "email" : "customer_id"; }
	const char *other_role() const { return given.by_email ? "customer_id" : "email"; }
};

Model parse(const Json &json, const Schema &schema);

// ---- the query --------------------------------------------------------------------------------------------------

struct Param {
	CsegRuleType type;
	std::vector<std::string> values;
	bool operator==(const Param &) const = default;
};

struct Query {
	std::string sql;
	std::vector<Param> params;
	std::vector<CsegRuleReference> references;
	std::string current_state;
};

Query compile(const Model &model, const Schema &schema, const CsegRuleSegment *segments);

} // namespace cseg::rules
