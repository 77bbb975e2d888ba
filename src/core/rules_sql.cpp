// rules_sql.cpp
//    The model of rules to one SELECT.
//
//    SELECT who.customer, orders, revenue
//    FROM (the customers, with a boolean for each condition on their columns) AS who
//         LEFT JOIN (per kind of event: a row per customer that has any) AS …
//    WHERE the rules, over those columns
//
// Joins to aggregates stay linear whatever the rules are: an IN or EXISTS under OR is evaluated row by row where its
// hash table does not fit work_mem. NOT is pushed down to the conditions, which have two values each, so that NULL
// means the same everywhere: an empty collection.
//
// While it is made, the query holds no text but this file's. A name or a value is a reference, written as kMark, a
// letter and a number; render() puts names in for them and notes where parameters are.
#include "rules.hpp"

#include <algorithm>
#include <cstdlib>
#include <map>

namespace cseg::rules {
namespace {

constexpr char kMark = '\x01';
// Identities are the same if their texts are, whatever collation their columns have.
const std::string kText = "::text COLLATE pg_catalog.\"default\"";
const std::string kMoment = "(SELECT \x01m0\x01)";

bool is_same_param(const Param &a, CsegRuleType type, const std::vector<std::string> &values) {
	return a.type == type && a.values == values;
}

// The value with what LIKE gives a meaning to taken literally.
std::string like_pattern(const std::string &value, bool before, bool after) {
	std::string pattern = before ? "%" : "";
	for (char c : value) {
		if (c == '%' || c == '_' || c == '\\')
			pattern += '\\';
		pattern += c;
	}
	return after ? pattern + '%' : pattern;
}

const char *unit_name(Unit unit) {
	switch (unit) {
	case Unit::hour:
		return "hours";
	case Unit::day:
		return "days";
	case Unit::week:
		return "weeks";
	case Unit::month:
		return "months";
	default:
		return "years";
	}
}

class Compiler {
public:
	Compiler(const Model &model, const Schema &schema, const CsegRuleSegment *segments)
		: model(model), schema(schema), segments(segments) {}

	Query compile() {
		const std::string condition = formula(model.root, false, true);
		const std::string totals = totals_query();
		const std::string universe = customers_query();
		std::string sql = "SELECT who.customer::text AS customer_identity,\n";
		if (totals.empty())
			sql += "       NULL::bigint AS num_of_orders,\n       NULL::numeric AS total_revenue\n";
		else
			sql += "       coalesce(" + totals + ".events, 0) AS num_of_orders,\n       coalesce(" + totals +
				   ".amount, 0)::numeric AS total_revenue\n";
		sql += "FROM (" + universe + ") AS who\n";
		for (const Join &join : joins)
			sql += "     LEFT JOIN (" + join.query + ") AS " + join.alias + " ON " + join.condition + "\n";
		sql += "WHERE " + condition;
		render(sql);
		query.current_state = model.current_state;
		return std::move(query);
	}

private:
	struct Join {
		std::string alias;
		std::string query;
		std::string condition;
	};

	// Where the customer of a source's row is told: joins to come to it, and the expression.
	struct Identity {
		std::string join;
		std::string expression;
	};

	// ---- references ------------------------------------------------------------------------------------------

	std::string param(CsegRuleType type, std::vector<std::string> values) {
		for (size_t i = 0; i < query.params.size(); i++)
			if (is_same_param(query.params[i], type, values))
				return kMark + ("p" + std::to_string(i + 1)) + kMark;
		query.params.push_back({type, std::move(values)});
		return kMark + ("p" + std::to_string(query.params.size())) + kMark;
	}

	std::string name(const char *quoted) {
		const auto known = std::find(names.begin(), names.end(), quoted);
		const size_t i = static_cast<size_t>(known - names.begin());
		if (known == names.end())
			names.emplace_back(quoted);
		return kMark + ("n" + std::to_string(i)) + kMark;
	}

	void render(const std::string &sql) {
		for (size_t i = 0; i < sql.size(); i++) {
			if (sql[i] != kMark) {
				query.sql += sql[i];
				continue;
			}
			const char kind = sql[++i];
			const size_t number = std::strtoul(sql.c_str() + i + 1, nullptr, 10);
			i = sql.find(kMark, i);
			if (kind == 'n') {
				query.sql += names[number];
				continue;
			}
			const std::string text = kind == 'p' ? '$' + std::to_string(number) : "customer_segmentation.as_of()";
			query.references.push_back({query.sql.size(), text.size(), static_cast<uint32_t>(number)});
			query.sql += text;
		}
	}

	std::string relation(CsegRuleSource source) { return name(schema.given.relation[source]); }

	std::string bare(const std::string &alias, const CsegRuleColumn &column) {
		return alias + '.' + name(column.sql);
	}

	std::string value(const std::string &alias, const CsegRuleColumn &column) {
		return bare(alias, column) + name(column.suffix);
	}

	// A column that is compared with one of the same role in another source.
	std::string key(const std::string &alias, const CsegRuleColumn &column) {
		const std::string_view role = column.role;
		const bool cast = role == "email"         ? schema.given.cast_email
						  : role == "customer_id" ? schema.given.cast_customer_id
												  : schema.given.cast_order_id;
		return bare(alias, column) + (cast ? kText : "");
	}

	// ---- time ------------------------------------------------------------------------------------------------

	std::string zone() { return param(CSEG_PARAM_TEXT, {schema.given.time_zone}); }

	// The moment, some time ago, as a column of that class compares to it. Evaluated once, not for each row.
	std::string ago(CsegColumnClass cls, uint64_t amount, Unit unit) {
		const bool instant = cls == CSEG_COLUMN_INSTANT;
		if (amount == 0)
			return instant ? kMoment : "(SELECT \x01m0\x01 AT TIME ZONE " + zone() + ")";
		const std::string span = param(CSEG_PARAM_INTERVAL, {std::to_string(amount) + ' ' + unit_name(unit)});
		if (unit == Unit::hour)
			return instant ? "(SELECT \x01m0\x01 - " + span + ")"
						   : "(SELECT (\x01m0\x01 - " + span + ") AT TIME ZONE " + zone() + ")";
		const std::string local = "(\x01m0\x01 AT TIME ZONE " + zone() + ") - " + span;
		return instant ? "(SELECT (" + local + ") AT TIME ZONE " + zone() + ")" : "(SELECT " + local + ")";
	}

	// A given moment, or of a date the start of the day, or of the day after.
	std::string moment(CsegColumnClass cls, const Moment &m, bool day_after) {
		const std::string given = param(m.type, {m.text});
		if (m.type == CSEG_PARAM_INSTANT)
			return cls == CSEG_COLUMN_INSTANT ? given : "(" + given + " AT TIME ZONE " + zone() + ")";
		const std::string local = m.type == CSEG_PARAM_LOCAL ? given
								  : day_after                ? "(" + given + " + 1)::timestamp"
															 : given + "::timestamp";
		return cls == CSEG_COLUMN_INSTANT ? "(" + local + " AT TIME ZONE " + zone() + ")" : "(" + local + ")";
	}

	// The conditions of a time on a column, without those that only keep out what is after the moment.
	std::vector<std::string> time_conditions(const std::string &column, CsegColumnClass cls, const TimeTest &t) {
		switch (t.comparator) {
		case Comparator::under:
			return {column + " > " + ago(cls, t.longer, t.unit)};
		case Comparator::over:
			return {column + " < " + ago(cls, t.longer, t.unit)};
		case Comparator::within:
			return {column + " >= " + ago(cls, t.longer, t.unit), column + " <= " + ago(cls, t.shorter, t.unit)};
		case Comparator::before:
			return {column + " < " + moment(cls, t.first, false)};
		case Comparator::after:
			return {column + (t.first.type == CSEG_PARAM_DATE ? " >= " : " > ") + moment(cls, t.first, true)};
		case Comparator::between:
			return {column + " >= " + moment(cls, t.first, false),
					column + (t.last.type == CSEG_PARAM_DATE ? " < " : " <= ") + moment(cls, t.last, true)};
		default:
			return {};
		}
	}

	std::string up_to_now(const std::string &alias, const CsegRuleColumn &time) {
		return bare(alias, time) + " <= " + ago(static_cast<CsegColumnClass>(time.cls), 0, Unit::day);
	}

	// ---- identities ------------------------------------------------------------------------------------------

	// Rows that lack the identity which segment_by asks for have it by the customers source, if that knows both.
	Identity identity(CsegRuleSource source, const std::string &alias) {
		const CsegRuleColumn *own = schema.column(source, schema.identity_role());
		const CsegRuleColumn *other = schema.column(source, schema.other_role());
		const CsegRuleColumn *wanted = schema.column(CSEG_SOURCE_CUSTOMERS, schema.identity_role());
		const CsegRuleColumn *link = schema.column(CSEG_SOURCE_CUSTOMERS, schema.other_role());
		if (own != nullptr && (own->not_null || other == nullptr || wanted == nullptr || link == nullptr ||
							   source == CSEG_SOURCE_CUSTOMERS))
			return {"", key(alias, *own)};
		if (other == nullptr || wanted == nullptr || link == nullptr) {
			const std::string what = cseg_rules_source_name(source);
			throw Unsound{CSEG_RULE_NO_SOURCE, "$",
						  "source \"" + what + "\" has no \"" + schema.identity_role() +
							  "\", and source \"customers\" does not map both \"customer_id\" and \"email\"",
						  "Map the column that segment_by asks for with customer_segmentation.set_source."};
		}
		Identity id;
		const std::string mine = key(alias, *other);
		const std::string when_lacking = own == nullptr ? "" : " AND " + bare(alias, *own) + " IS NULL";
		id.join = std::string(own == nullptr ? " JOIN " : " LEFT JOIN ");
		if (link->unique) {
			id.join += relation(CSEG_SOURCE_CUSTOMERS) + " AS k ON " + key("k", *link) + " = " + mine;
			id.expression = key("k", *wanted);
		} else {
			id.join += "(SELECT DISTINCT " + key("k", *link) + " AS known, " + key("k", *wanted) +
					   " AS customer FROM " + relation(CSEG_SOURCE_CUSTOMERS) + " AS k) AS k ON k.known = " + mine;
			id.expression = "k.customer";
		}
		id.join += when_lacking;
		if (own != nullptr)
			id.expression = "coalesce(" + key(alias, *own) + ", " + id.expression + ")";
		return id;
	}

	// ---- joins -----------------------------------------------------------------------------------------------

	// The alias of a join to this query, which has a row per customer; one join for equal queries.
	std::string join(const std::string &prefix, const std::string &sql, bool as_text = false) {
		for (const Join &j : joins)
			if (j.query == sql)
				return j.alias;
		const std::string alias = prefix + '_' + std::to_string(++aliases[prefix]);
		joins.push_back({alias, sql, alias + ".customer = who.customer" + (as_text ? kText : "")});
		return alias;
	}

	// A row per customer with events of a source: their number and, of orders, the amount.
	std::string events(CsegRuleSource source, const CsegRuleColumn &time, const TimeTest &window,
					   std::vector<std::string> conditions, const std::string &further_join) {
		const Identity id = identity(source, "e");
		const CsegColumnClass cls = static_cast<CsegColumnClass>(time.cls);
		std::vector<std::string> all = time_conditions(bare("e", time), cls, window);
		all.insert(all.begin(), id.expression + " IS NOT NULL");
		all.push_back(up_to_now("e", time));
		all.insert(all.end(), conditions.begin(), conditions.end());
		std::string sql = "SELECT " + id.expression + " AS customer, count(*) AS events";
		if (source == CSEG_SOURCE_ORDERS)
			sql += ", sum(" + amount("e") + ")::numeric AS amount";
		return join(cseg_rules_source_name(source), sql + "\n          FROM " + relation(source) + " AS e" + id.join +
														further_join + "\n          WHERE " +
														all_of(all, "\n            AND ") + "\n          GROUP BY " +
														id.expression);
	}

	static std::string all_of(const std::vector<std::string> &conditions, const char *with) {
		std::string sql;
		for (const std::string &condition : conditions)
			sql += (sql.empty() ? "" : with) + condition;
		return sql;
	}

	std::string amount(const std::string &alias) {
		return value(alias, schema.need(CSEG_SOURCE_ORDERS, "amount", "$"));
	}

	std::string all_orders() {
		return events(CSEG_SOURCE_ORDERS, schema.need(CSEG_SOURCE_ORDERS, "time", "$"), {}, {}, "");
	}

	// ---- conditions ------------------------------------------------------------------------------------------

	// Of one value: the positive comparator. NULL where the value is NULL.
	std::string text_condition(const std::string &v, const PropertyTest &t) {
		switch (t.comparator) {
		case Comparator::contain:
			return v + " ILIKE " + param(CSEG_PARAM_TEXT, {like_pattern(t.values[0], true, true)});
		case Comparator::start_with:
			return v + " ILIKE " + param(CSEG_PARAM_TEXT, {like_pattern(t.values[0], false, true)});
		case Comparator::end_with:
			return v + " ILIKE " + param(CSEG_PARAM_TEXT, {like_pattern(t.values[0], true, false)});
		case Comparator::is_in:
			return v + " = ANY (" + param(CSEG_PARAM_TEXTS, t.values) + ")";
		default:
			return v + " = " + param(CSEG_PARAM_TEXT, {t.values[0]});
		}
	}

	std::string number_condition(const std::string &v, Comparator comparator, const std::vector<std::string> &values,
								 bool negative) {
		const auto number = [&](size_t i) { return param(CSEG_PARAM_NUMBER, {values[i]}); };
		switch (comparator) {
		case Comparator::greater_than:
			return v + (negative ? " <= " : " > ") + number(0);
		case Comparator::less_than:
			return v + (negative ? " >= " : " < ") + number(0);
		case Comparator::greater_or_equal:
			return v + (negative ? " < " : " >= ") + number(0);
		case Comparator::less_or_equal:
			return v + (negative ? " > " : " <= ") + number(0);
		case Comparator::between: {
			const std::string low = number(0);
			return v + (negative ? " NOT BETWEEN " : " BETWEEN ") + low + " AND " + number(1);
		}
		case Comparator::is_in:
			return v + (negative ? " <> ALL (" : " = ANY (") + param(CSEG_PARAM_NUMBERS, values) + ")";
		default:
			return v + (negative ? " <> " : " = ") + number(0);
		}
	}

	// Any value of the column meets the positive comparator. May be NULL for not.
	std::string column_condition(const std::string &alias, const PropertyTest &t) {
		const CsegRuleColumn &column = *t.column;
		const std::string v = value(alias, column);
		if (t.cls == CSEG_COLUMN_TEXTS) {
			const std::string element = "EXISTS (SELECT FROM unnest(" + v + ") AS v (value) WHERE ";
			if (t.comparator == Comparator::is_set)
				return element + "v.value IS NOT NULL)";
			if (t.comparator == Comparator::equal || t.comparator == Comparator::array_contains)
				return v + " @> ARRAY[" + param(CSEG_PARAM_TEXT, {t.values[0]}) + "]";
			return element + text_condition("v.value", t) + ")";
		}
		const bool point = t.cls == CSEG_COLUMN_INSTANT || t.cls == CSEG_COLUMN_LOCAL;
		if (t.comparator == Comparator::is_set)
			return point ? up_to_now(alias, column) : bare(alias, column) + " IS NOT NULL";
		switch (t.cls) {
		case CSEG_COLUMN_TEXT:
			return text_condition(v, t);
		case CSEG_COLUMN_NUMBER:
			return number_condition(v, t.comparator, t.values, false);
		case CSEG_COLUMN_BOOLEAN:
			return v + " = " + param(CSEG_PARAM_BOOLEAN, {t.values[0]});
		default: {
			std::vector<std::string> all = time_conditions(v, t.cls, t.time);
			all.push_back(up_to_now(alias, column));
			return all_of(all, " AND ");
		}
		}
	}

	static std::string with_sign(const std::string &condition, bool negative) {
		return negative ? "(" + condition + ") IS NOT TRUE" : "(" + condition + ")";
	}

	// ---- filters ---------------------------------------------------------------------------------------------

	// What the formula says of the number of something, where no row of the join means none.
	std::string count_condition(const std::string &column, const NumberTest &test, bool negated) {
		const bool zero = test.holds_for_zero() != negated;
		return number_condition(zero ? "coalesce(" + column + ", 0)" : column, test.comparator, test.values,
								test.negative != negated);
	}

	std::string order_condition(const PropertyTest &t, std::string &further_join) {
		if (t.place == Place::column)
			return with_sign(column_condition("e", t), t.negative);
		const CsegRuleColumn &order = schema.need(CSEG_SOURCE_ORDERS, "order_id", "$");
		const CsegRuleColumn &item = schema.need(CSEG_SOURCE_LINE_ITEMS, "order_id", "$");
		if (t.place == Place::items)
			return std::string(t.negative ? "NOT EXISTS" : "EXISTS") + " (SELECT FROM " +
				   relation(CSEG_SOURCE_LINE_ITEMS) + " AS i WHERE " + key("i", item) + " = " + key("e", order) +
				   " AND " + column_condition("i", t) + ")";
		if (further_join.find(" AS items ") == std::string::npos) {
			const CsegRuleColumn *quantity = schema.column(CSEG_SOURCE_LINE_ITEMS, "quantity");
			further_join += " LEFT JOIN (SELECT " + key("i", item) + " AS known, " +
							(quantity == nullptr ? "count(*)" : "sum(" + value("i", *quantity) + ")") +
							" AS number FROM " + relation(CSEG_SOURCE_LINE_ITEMS) + " AS i GROUP BY " +
							key("i", item) + ") AS items ON items.known = " + key("e", order);
		}
		if (t.comparator == Comparator::is_set)
			return std::string("items.number IS ") + (t.negative ? "NULL" : "NOT NULL");
		return "(" + number_condition("coalesce(items.number, 0)", t.comparator, t.values, t.negative) + ")";
	}

	// The first order is one at the customer's earliest moment; of several then, all are.
	std::string first_order_join(const Node &n, const CsegRuleColumn &time) {
		const Identity id = identity(CSEG_SOURCE_ORDERS, "b");
		const Identity outer = identity(CSEG_SOURCE_ORDERS, "e");
		return " JOIN (SELECT " + id.expression + " AS customer, min(" + bare("b", time) + ") AS began FROM " +
			   relation(CSEG_SOURCE_ORDERS) + " AS b" + id.join + " WHERE " + id.expression + " IS NOT NULL AND " +
			   up_to_now("b", time) + " GROUP BY " + id.expression +
			   ") AS first ON first.customer = " + outer.expression + " AND " + bare("e", time) +
			   (n.action == Action::new_customer_purchase ? " = " : " > ") + "first.began";
	}

	const CsegRuleColumn &time_of(const Node &n) {
		if (n.source != CSEG_SOURCE_SUBSCRIPTIONS || schema.column(n.source, "event") != nullptr)
			return schema.need(n.source, "time", n.path);
		return schema.need(n.source,
						   n.action == Action::started_subscription   ? "started_time"
						   : n.action == Action::updated_subscription ? "updated_time"
																	  : "cancelled_time",
						   n.path);
	}

	std::string action(const Node &n, bool negated) {
		std::vector<std::string> conditions;
		std::string further_join;
		const CsegRuleColumn &time = time_of(n);
		if (const CsegRuleColumn *event = schema.column(n.source, "event");
			n.source == CSEG_SOURCE_SUBSCRIPTIONS && event != nullptr)
			conditions.push_back("lower(" + value("e", *event) + ") = " +
								 (n.action == Action::started_subscription   ? "'started'"
								  : n.action == Action::updated_subscription ? "'updated'"
																			 : "'cancelled'"));
		if (n.action == Action::new_customer_purchase || n.action == Action::returning_customer_purchase)
			further_join = first_order_join(n, time);
		for (const PropertyTest &t : n.properties)
			conditions.push_back(order_condition(t, further_join));
		const std::string alias = events(n.source, time, n.time, conditions, further_join);
		return count_condition(alias + ".events", n.count, negated);
	}

	std::string property(const Node &n, bool negated) {
		const PropertyTest &t = n.properties.front();
		const bool negative = t.negative != negated;
		switch (t.place) {
		case Place::tags:
			return tags(t) + ".customer IS " + (negative ? "NULL" : "NOT NULL");
		case Place::orders_number:
			return computed(all_orders() + ".events", t, negated);
		case Place::spend:
			return computed(all_orders() + ".amount", t, negated);
		case Place::average_order: {
			const std::string totals = all_orders();
			const std::string average = "(" + totals + ".amount / " + totals + ".events)";
			if (t.comparator == Comparator::is_set)
				return average + " IS " + (negative ? "NULL" : "NOT NULL");
			return with_sign(number_condition(average, t.comparator, t.values, false), negative);
		}
		case Place::active_subscriptions:
			return computed(active_subscriptions() + ".events", t, negated);
		default:
			break;
		}
		const std::string column = customer_condition(t);
		return negative ? column + " IS NOT TRUE" : column;
	}

	// A number that every customer has: 0 where there is nothing to count.
	std::string computed(const std::string &column, const PropertyTest &t, bool negated) {
		if (t.comparator == Comparator::is_set)
			return t.negative != negated ? "false" : "true";
		if (t.comparator == Comparator::is_in)
			return number_condition("coalesce(" + column + ", 0)", t.comparator, t.values, t.negative != negated);
		return count_condition(column, {t.comparator, t.negative, t.values}, negated);
	}

	std::string tags(const PropertyTest &t) {
		const Identity id = identity(CSEG_SOURCE_TAGS, "e");
		std::vector<std::string> all = {id.expression + " IS NOT NULL", "(" + column_condition("e", t) + ")"};
		if (const CsegRuleColumn *time = schema.column(CSEG_SOURCE_TAGS, "time"))
			all.push_back(up_to_now("e", *time));
		if (const CsegRuleColumn *removed = schema.column(CSEG_SOURCE_TAGS, "removed_time"))
			all.push_back("(" + up_to_now("e", *removed) + ") IS NOT TRUE");
		return join("tags", "SELECT " + id.expression + " AS customer\n          FROM " + relation(CSEG_SOURCE_TAGS) +
								" AS e" + id.join + "\n          WHERE " + all_of(all, "\n            AND ") +
								"\n          GROUP BY " + id.expression);
	}

	std::string active_subscriptions() {
		const CsegRuleColumn &started = schema.need(CSEG_SOURCE_SUBSCRIPTIONS, "started_time", "$");
		const CsegRuleColumn &cancelled = schema.need(CSEG_SOURCE_SUBSCRIPTIONS, "cancelled_time", "$");
		return events(CSEG_SOURCE_SUBSCRIPTIONS, started, {}, {"(" + up_to_now("e", cancelled) + ") IS NOT TRUE"},
					  "");
	}

	// A boolean of the customers query.
	std::string customer_condition(const PropertyTest &t) {
		const std::string condition = column_condition("c", t);
		size_t i = 0;
		while (i < customer_conditions.size() && customer_conditions[i] != condition)
			i++;
		if (i == customer_conditions.size())
			customer_conditions.push_back(condition);
		return "who.holds_" + std::to_string(i + 1);
	}

	std::string segment(const Node &n, bool negated) {
		const CsegRuleSegment &other = segments[n.segment];
		const std::string id = param(CSEG_PARAM_TEXT, {model.segments[n.segment]});
		const std::string table = name(other.instances);
		const std::string local =
			"(SELECT \x01m0\x01 AT TIME ZONE " + param(CSEG_PARAM_TEXT, {other.time_zone}) + ")";
		std::string customer = "m.customer_identity";
		std::string known;
		if (other.by_email != schema.given.by_email) {
			const CsegRuleColumn &mine = schema.need(CSEG_SOURCE_CUSTOMERS, schema.identity_role(), n.path);
			const CsegRuleColumn &theirs = schema.need(CSEG_SOURCE_CUSTOMERS, schema.other_role(), n.path);
			customer = bare("k", mine) + kText;
			known = " JOIN " + relation(CSEG_SOURCE_CUSTOMERS) + " AS k ON " + bare("k", theirs) + kText +
					" = m.customer_identity";
		}
		const std::string alias =
			join("segment",
				 "SELECT " + customer + " AS customer\n          FROM " + table + " AS m" + known +
					 "\n          WHERE m.segment_id = " + id +
					 "\n            AND m.instance_created_date = (SELECT max" + "(n.instance_created_date) FROM " +
					 table + " AS n WHERE n.segment_id = " + id + " AND n.instance_created_date <= " + local +
					 "\n              AND n.instance_created_date >= " + "(SELECT customer_segmentation.emptied_at(" +
					 id + ", \x01m0\x01)))\n          GROUP BY " + customer,
				 true);
		return alias + ".customer IS " + (n.negative != negated ? "NULL" : "NOT NULL");
	}

	// Scores 1..n: as many as n times the share of customers that are strictly worse, rounded down, and one.
	std::string rfm(const Node &n, bool negated) {
		const CsegRuleColumn &time = schema.need(CSEG_SOURCE_ORDERS, "time", n.path);
		const Identity id = identity(CSEG_SOURCE_ORDERS, "e");
		const std::string buckets = param(CSEG_PARAM_NUMBER, {std::to_string(schema.given.rfm_buckets)});
		const auto score = [&](const std::string &by) {
			const std::string low =
				"floor(" + buckets + " * (rank() OVER (ORDER BY " + by + ") - 1) / count(*) OVER ())";
			return schema.given.rfm_lowest_best ? buckets + " - " + low : "1 + " + low;
		};
		const std::string alias = join(
			"rfm", "SELECT " + id.expression + " AS customer,\n                 " +
					   score("max(" + bare("e", time) + ")") + " AS recency,\n                 " + score("count(*)") +
					   " AS frequency,\n                 " + score("coalesce(sum(" + amount("e") + "), 0)") +
					   " AS monetary\n          FROM " + relation(CSEG_SOURCE_ORDERS) + " AS e" + id.join +
					   "\n          WHERE " + id.expression + " IS NOT NULL\n            AND " +
					   up_to_now("e", time) + "\n          GROUP BY " + id.expression);
		const char *column = n.score == Score::recency     ? ".recency"
							 : n.score == Score::frequency ? ".frequency"
														   : ".monetary";
		return with_sign(alias + column + " = ANY (" + param(CSEG_PARAM_NUMBERS, n.scores) + ")",
						 n.negative != negated);
	}

	std::string leaf(const Node &n, bool negated) {
		switch (n.kind) {
		case NodeKind::action:
			return action(n, negated);
		case NodeKind::property:
			return property(n, negated);
		case NodeKind::segment:
			return segment(n, negated);
		default:
			return rfm(n, negated);
		}
	}

	// none: no filter of it holds.
	std::string formula(const Node &n, bool negated, bool outermost) {
		if (n.kind != NodeKind::all && n.kind != NodeKind::any && n.kind != NodeKind::none)
			return leaf(n, negated);
		const bool inside = n.kind == NodeKind::none ? !negated : negated;
		const bool every = (n.kind == NodeKind::all) != inside;
		std::vector<std::string> parts;
		for (const Node &child : n.children)
			parts.push_back(formula(child, inside, n.children.size() == 1 && outermost));
		if (parts.size() == 1)
			return parts[0];
		const std::string sql =
			all_of(parts, every ? (outermost ? "\n  AND " : " AND ") : (outermost ? "\n   OR " : " OR "));
		return outermost ? sql : "(" + sql + ")";
	}

	// ---- the parts around ------------------------------------------------------------------------------------

	void purchases(const Node &n, std::vector<const Node *> &found) const {
		for (const Node &child : n.children)
			purchases(child, found);
		if (n.kind == NodeKind::action && n.source == CSEG_SOURCE_ORDERS)
			found.push_back(&n);
	}

	static bool under_not(const Node &n, const Node *wanted, bool inside) {
		if (&n == wanted)
			return inside;
		return std::any_of(n.children.begin(), n.children.end(), [&](const Node &child) {
			return under_not(child, wanted, inside || n.kind == NodeKind::none);
		});
	}

	// Orders and revenue: of the purchase filter's time if there is one such filter and it asks for purchases, else
	// of all time. Empty if there are no orders to be known.
	std::string totals_query() {
		if (!schema.has(CSEG_SOURCE_ORDERS))
			return "";
		std::vector<const Node *> found;
		purchases(model.root, found);
		TimeTest window;
		if (found.size() == 1 && !found[0]->count.holds_for_zero() && !under_not(model.root, found[0], false))
			window = found[0]->time;
		return events(CSEG_SOURCE_ORDERS, schema.need(CSEG_SOURCE_ORDERS, "time", "$"), window, {}, "");
	}

	// Who there is: the customers source or, without one, those of whom there is any event that the rules speak of.
	std::string customers_query() {
		const CsegRuleColumn *customer = schema.column(CSEG_SOURCE_CUSTOMERS, schema.identity_role());
		if (customer == nullptr)
			return seen_query();
		const std::string id = key("c", *customer);
		const bool group = !customer->unique;
		std::string sql = "SELECT " + id + " AS customer";
		for (size_t i = 0; i < customer_conditions.size(); i++)
			sql += ",\n             " + (group ? "bool_or(" + customer_conditions[i] + ")" : customer_conditions[i]) +
				   " AS holds_" + std::to_string(i + 1);
		sql += "\n      FROM " + relation(CSEG_SOURCE_CUSTOMERS) + " AS c\n      WHERE " + bare("c", *customer) +
			   " IS NOT NULL";
		if (const CsegRuleColumn *time = schema.column(CSEG_SOURCE_CUSTOMERS, "time"))
			sql += " AND " + up_to_now("c", *time);
		return group ? sql + "\n      GROUP BY " + id : sql;
	}

	void sources_of(const Node &n, std::vector<const Node *> &found) const {
		for (const Node &child : n.children)
			sources_of(child, found);
		const bool counts =
			n.kind == NodeKind::property &&
			(n.properties.front().place == Place::active_subscriptions || n.properties.front().place == Place::tags);
		if (counts || (n.kind == NodeKind::action && n.source != CSEG_SOURCE_ORDERS))
			found.push_back(&n);
	}

	std::string seen_query() {
		std::vector<std::string> parts;
		const auto add = [&](CsegRuleSource source, const CsegRuleColumn *time) {
			const Identity id = identity(source, "e");
			const std::string sql = "SELECT " + id.expression + " AS customer FROM " + relation(source) + " AS e" +
									id.join + " WHERE " + id.expression + " IS NOT NULL" +
									(time == nullptr ? "" : " AND " + up_to_now("e", *time));
			if (std::find(parts.begin(), parts.end(), sql) == parts.end())
				parts.push_back(sql);
		};
		if (schema.has(CSEG_SOURCE_ORDERS))
			add(CSEG_SOURCE_ORDERS, &schema.need(CSEG_SOURCE_ORDERS, "time", "$"));
		std::vector<const Node *> found;
		sources_of(model.root, found);
		for (const Node *n : found)
			if (n->kind == NodeKind::action)
				add(n->source, &time_of(*n));
			else if (n->properties.front().place == Place::tags)
				add(CSEG_SOURCE_TAGS, schema.column(CSEG_SOURCE_TAGS, "time"));
			else
				add(CSEG_SOURCE_SUBSCRIPTIONS, &schema.need(CSEG_SOURCE_SUBSCRIPTIONS, "started_time", n->path));
		if (parts.empty())
			throw Unsound{
				CSEG_RULE_NO_SOURCE, "$", "there is no source that says who the customers are",
				"Call customer_segmentation.set_source('customers', your_table, columns) with a column for \"" +
					std::string(schema.identity_role()) + "\"."};
		if (parts.size() == 1)
			return "SELECT DISTINCT" + parts[0].substr(6);
		return all_of(parts, "\n      UNION ");
	}

	const Model &model;
	const Schema &schema;
	const CsegRuleSegment *segments;
	Query query;
	std::vector<std::string> names;
	std::vector<Join> joins;
	std::vector<std::string> customer_conditions;
	std::map<std::string, int> aliases;
};

} // namespace

Query compile(const Model &model, const Schema &schema, const CsegRuleSegment *segments) {
	return Compiler(model, schema, segments).compile();
}

} // namespace cseg::rules
