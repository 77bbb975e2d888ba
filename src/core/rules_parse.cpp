// rules_parse.cpp
//    JSON to the model of rules: every word and value is checked, and what is wrong is named with its JSON path.
#include "rules.hpp"

#include <algorithm>
#include <cstdlib>

#include "rules_words.hpp"

namespace cseg::rules {
namespace {

constexpr size_t kShownBytes = 60; // of a text in a message

[[noreturn]] void invalid(const std::string &path, std::string message, std::string hint = {}) {
	throw Unsound{CSEG_RULE_INVALID, path, std::move(message), std::move(hint)};
}

// A text for a message: cut where no character can be cut, whatever the encoding.
std::string shown(const std::string &text) {
	if (text.size() <= kShownBytes)
		return '"' + text + '"';
	size_t cut = kShownBytes;
	const auto ascii = [&](size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
	while (cut > 0 && !(ascii(cut - 1) && ascii(cut)))
		cut--;
	return '"' + text.substr(0, cut) + "...\"";
}

std::string described(const Json &json) {
	switch (json.kind) {
	case CSEG_JSON_NULL:
		return "null";
	case CSEG_JSON_FALSE:
		return "false";
	case CSEG_JSON_TRUE:
		return "true";
	case CSEG_JSON_NUMBER:
		return json.text.size() <= kShownBytes ? json.text
											   : "a number of " + std::to_string(json.text.size()) + " digits";
	case CSEG_JSON_STRING:
		return shown(json.text);
	case CSEG_JSON_ARRAY:
		return "an array";
	default:
		return "an object";
	}
}

std::string at(const std::string &path, const char *key) {
	return path + '.' + key;
}

std::string at(const std::string &path, size_t i) {
	return path + '[' + std::to_string(i) + ']';
}

const Json *find(const Json &object, std::string_view key) {
	for (size_t i = object.keys.size(); i-- > 0;)
		if (object.keys[i] == key)
			return &object.items[i];
	return nullptr;
}

void check_object(const Json &json, const std::string &path) {
	if (json.kind != CSEG_JSON_OBJECT)
		invalid(path, "expected an object, got " + described(json));
}

const Json &need(const Json &object, const char *key, const std::string &path) {
	const Json *json = find(object, key);
	if (json == nullptr)
		invalid(path, std::string("key \"") + key + "\" is missing");
	return *json;
}

const Json &need_object(const Json &object, const char *key, const std::string &path) {
	const Json &json = need(object, key, path);
	check_object(json, at(path, key));
	return json;
}

const std::string &need_string(const Json &object, const char *key, const std::string &path) {
	const Json &json = need(object, key, path);
	if (json.kind != CSEG_JSON_STRING)
		invalid(at(path, key), "expected a string, got " + described(json));
	return json.text;
}

const std::vector<Json> &need_array(const Json &object, const char *key, const std::string &path) {
	const Json &json = need(object, key, path);
	if (json.kind != CSEG_JSON_ARRAY)
		invalid(at(path, key), "expected an array, got " + described(json));
	return json.items;
}

// A misspelled key that may be left out would silently change what the rules say.
void check_keys(const Json &object, std::initializer_list<std::string_view> known, const std::string &path) {
	for (const std::string &key : object.keys)
		if (std::find(known.begin(), known.end(), key) == known.end()) {
			std::string list;
			for (std::string_view word : known)
				list.append(list.empty() ? "" : ", ").append(word);
			invalid(path, "unknown key " + shown(key) + ", expected " + list);
		}
}

// ---- values -----------------------------------------------------------------------------------------------------

int sign_of(const std::string &number) {
	if (number.find_first_of("123456789") == std::string::npos)
		return 0;
	return number[0] == '-' ? -1 : 1;
}

// Compares decimal numbers of any length.
int compare_numbers(const std::string &a, const std::string &b) {
	const int sign = sign_of(a);
	if (sign != sign_of(b) || sign == 0)
		return sign - sign_of(b);
	const auto parts = [](std::string_view n) {
		if (n[0] == '-')
			n.remove_prefix(1);
		const size_t point = std::min(n.find('.'), n.size());
		std::string_view whole = n.substr(0, point);
		std::string_view rest = n.substr(std::min(point + 1, n.size()));
		while (!whole.empty() && whole[0] == '0')
			whole.remove_prefix(1);
		while (!rest.empty() && rest.back() == '0')
			rest.remove_suffix(1);
		return std::pair{whole, rest};
	};
	const auto [whole_a, rest_a] = parts(a);
	const auto [whole_b, rest_b] = parts(b);
	if (whole_a.size() != whole_b.size())
		return whole_a.size() < whole_b.size() ? -sign : sign;
	if (const int c = whole_a.compare(whole_b); c != 0)
		return c < 0 ? -sign : sign;
	const int c = rest_a.compare(rest_b);
	return c < 0 ? -sign : c > 0 ? sign : 0;
}

std::string number_of(const Json &json, const std::string &path) {
	if (json.kind != CSEG_JSON_NUMBER)
		invalid(path, "expected a number, got " + described(json));
	return json.text;
}

std::string text_of(const Json &json, const std::string &path) {
	if (json.kind != CSEG_JSON_STRING && json.kind != CSEG_JSON_NUMBER)
		invalid(path, "expected a string, got " + described(json));
	return json.text;
}

template <class F> std::vector<std::string> list_of(const Json &object, const std::string &path, F &&element) {
	std::vector<std::string> list;
	const std::vector<Json> &items = need_array(object, "value", path);
	for (size_t i = 0; i < items.size(); i++)
		list.push_back(element(items[i], at(at(path, "value"), i)));
	return list;
}

// The values of a comparison of numbers: "value", and for between a pair of them or "value1" and "value2".
std::vector<std::string> numbers_of(const Json &object, Comparator comparator, const std::string &path) {
	if (comparator == Comparator::is_in)
		return list_of(object, path, number_of);
	if (comparator != Comparator::between)
		return {number_of(need(object, "value", path), at(path, "value"))};
	std::vector<std::string> pair;
	if (const Json *value = find(object, "value"); value != nullptr && value->kind == CSEG_JSON_ARRAY) {
		pair = list_of(object, path, number_of);
		if (pair.size() != 2)
			invalid(at(path, "value"), "expected two numbers, got " + std::to_string(pair.size()));
	} else {
		pair = {number_of(need(object, "value1", path), at(path, "value1")),
				number_of(need(object, "value2", path), at(path, "value2"))};
	}
	if (compare_numbers(pair[0], pair[1]) > 0)
		invalid(path, "between " + pair[0] + " and " + pair[1] + " there is nothing", "Give the lower number first.");
	return pair;
}

const ComparatorWord &comparator_of(const Json &object, Use use, const std::string &path) {
	const std::string &name = need_string(object, "comparator", path);
	const ComparatorWord *word = find_comparator(name, use);
	if (word == nullptr)
		invalid(at(path, "comparator"), "comparator " + shown(name) + " is not one of " + comparators(use));
	return *word;
}

// ---- time -------------------------------------------------------------------------------------------------------

uint64_t amount_of(const Json &object, const char *key, Unit unit, const std::string &path) {
	std::string text = number_of(need(object, key, path), at(path, key));
	if (const size_t point = text.find('.'); point != std::string::npos) {
		if (text.find_first_not_of('0', point + 1) != std::string::npos)
			invalid(at(path, key), "expected a whole number, got " + text);
		text.resize(point);
	}
	if (text[0] == '-' && sign_of(text) != 0)
		invalid(at(path, key), "expected a number that is not negative, got " + text);
	const uint64_t most = most_of(unit);
	uint64_t amount = 0;
	for (char c : text)
		if (c != '-' && amount <= most)
			amount = amount * 10 + static_cast<uint64_t>(c - '0');
	if (amount > most)
		invalid(at(path, key), "expected at most " + std::to_string(most) + " of this unit");
	return amount;
}

Unit unit_of(const Json &object, const std::string &path) {
	const std::string &name = need_string(object, "unit", path);
	Unit unit;
	if (!find_unit(name, &unit))
		invalid(at(path, "unit"), "unit " + shown(name) + " is not one of hour, day, week, month, year");
	return unit;
}

// Reads the fixed-width fields of an ISO 8601 date and time.
class IsoReader {
public:
	explicit IsoReader(std::string_view text) : rest(text) {}

	bool take(std::string_view chars) {
		if (rest.empty() || chars.find(rest[0]) == std::string_view::npos)
			return false;
		rest.remove_prefix(1);
		return true;
	}
	// A number of so many digits; -1 if there is none, or it is not within first..last.
	int number(size_t digits, int first, int last) {
		if (rest.size() < digits)
			return -1;
		int n = 0;
		for (size_t i = 0; i < digits; i++) {
			if (rest[i] < '0' || rest[i] > '9')
				return -1;
			n = n * 10 + (rest[i] - '0');
		}
		rest.remove_prefix(digits);
		return n < first || n > last ? -1 : n;
	}
	bool date() {
		const int year = number(4, 1, 9999);
		if (year < 0 || !take("-"))
			return false;
		const int month = number(2, 1, 12);
		if (month < 0 || !take("-"))
			return false;
		const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
		const int days = month == 2                                              ? (leap ? 29 : 28)
						 : month == 4 || month == 6 || month == 9 || month == 11 ? 30
																				 : 31;
		return number(2, 1, days) > 0;
	}
	bool time_of_day() {
		if (number(2, 0, 23) < 0 || !take(":") || number(2, 0, 59) < 0)
			return false;
		if (!take(":"))
			return true;
		if (number(2, 0, 59) < 0)
			return false;
		if (!take("."))
			return true;
		size_t digits = 0;
		while (digits < 6 && number(1, 0, 9) >= 0)
			digits++;
		return digits > 0;
	}
	bool offset() {
		if (take("Z"))
			return true;
		if (!take("+-") || number(2, 0, 14) < 0)
			return false;
		const bool more = take(":");
		return (rest.empty() && !more) || number(2, 0, 59) >= 0;
	}
	bool done() const { return rest.empty(); }

private:
	std::string_view rest;
};

bool read_moment(const std::string &text, Moment *moment) {
	IsoReader reader(text);
	moment->text = text;
	moment->type = CSEG_PARAM_DATE;
	if (!reader.date())
		return false;
	if (reader.done())
		return true;
	moment->type = CSEG_PARAM_LOCAL;
	if (!reader.take("T ") || !reader.time_of_day())
		return false;
	if (reader.done())
		return true;
	moment->type = CSEG_PARAM_INSTANT;
	return reader.offset() && reader.done();
}

Moment moment_of(const Json &object, const char *key, const std::string &path) {
	Moment moment;
	const std::string &text = need_string(object, key, path);
	if (!read_moment(text, &moment))
		invalid(at(path, key), "expected an ISO 8601 date, got " + shown(text),
				"Write a date as 2025-08-25, or a moment as 2025-08-25T11:08:39 or 2025-08-25T11:08:39+02:00.");
	return moment;
}

TimeTest time_of(const Json &object, Comparator comparator, const std::string &path) {
	TimeTest time;
	time.comparator = comparator;
	switch (comparator) {
	case Comparator::under:
	case Comparator::over:
		time.unit = unit_of(object, path);
		time.longer = amount_of(object, "value", time.unit, path);
		break;
	case Comparator::within: {
		time.unit = unit_of(object, path);
		const uint64_t a = amount_of(object, "value1", time.unit, path);
		const uint64_t b = amount_of(object, "value2", time.unit, path);
		time.longer = std::max(a, b);
		time.shorter = std::min(a, b);
		break;
	}
	case Comparator::between:
		time.first = moment_of(object, "value1", path);
		time.last = moment_of(object, "value2", path);
		if (time.first.type == CSEG_PARAM_DATE && time.last.type == CSEG_PARAM_DATE &&
			time.first.text > time.last.text)
			invalid(path, "between " + time.first.text + " and " + time.last.text + " there is nothing",
					"Give the earlier date first.");
		break;
	case Comparator::before:
	case Comparator::after:
		time.first = moment_of(object, "value", path);
		break;
	default:
		break;
	}
	return time;
}

// ---- filters ----------------------------------------------------------------------------------------------------

Use use_of(CsegColumnClass cls, bool several) {
	switch (cls) {
	case CSEG_COLUMN_TEXT:
		return several ? use_texts : use_text;
	case CSEG_COLUMN_TEXTS:
		return use_texts;
	case CSEG_COLUMN_NUMBER:
		return use_number;
	case CSEG_COLUMN_BOOLEAN:
		return use_boolean;
	default:
		return use_point;
	}
}

class Parser {
public:
	explicit Parser(const Schema &schema) : schema(schema) {}

	Model parse(const Json &json) {
		model.root = node(json, "$");
		return std::move(model);
	}

private:
	Node node(const Json &json, const std::string &path) {
		check_object(json, path);
		const std::string &type = need_string(json, "type", path);
		Node n;
		n.path = path;
		if (type == "AND" || type == "OR" || type == "NOT") {
			n.kind = type == "AND" ? NodeKind::all : type == "OR" ? NodeKind::any : NodeKind::none;
			const std::vector<Json> &filters = need_array(json, "filters", path);
			if (filters.empty())
				invalid(at(path, "filters"), "expected at least one filter");
			for (size_t i = 0; i < filters.size(); i++)
				n.children.push_back(node(filters[i], at(at(path, "filters"), i)));
			return n;
		}
		filter(n, type, json, path);
		return n;
	}

	// Each becomes a condition of the query.
	void count_condition(const std::string &path) {
		if (++conditions > CSEG_RULES_FILTERS)
			invalid(path, "more than " + std::to_string(CSEG_RULES_FILTERS) + " filters and properties",
					"Make segments of parts of the rules, and refer to them with segment_relation.");
	}

	void filter(Node &n, const std::string &type, const Json &json, const std::string &path) {
		count_condition(path);
		if (type == "lookalike_segment" || type == "predictive_analytics" || type == "whale_gpt")
			invalid(at(path, "type"), "filter type \"" + type + "\" can't be evaluated from data in the database",
					"Say it with user_action, user_property, segment_relation and rfm_segment, or define the segment "
					"by a "
					"query.");
		if (type != "user_action" && type != "user_property" && type != "segment_relation" && type != "rfm_segment")
			invalid(at(path, "type"), "filter type " + shown(type) +
										  " is not one of user_action, user_property, segment_relation, rfm_segment, "
										  "nor AND, OR, NOT");
		const Json &definition = need_object(json, "definition", path);
		const std::string inside = at(path, "definition");
		if (type == "user_action")
			action(n, definition, inside);
		else if (type == "user_property")
			user_property(n, definition, inside);
		else if (type == "segment_relation")
			segment(n, definition, inside);
		else
			rfm(n, definition, inside);
	}

	void action(Node &n, const Json &definition, const std::string &path) {
		check_keys(definition, {"action", "time", "property", "properties"}, path);
		const Json &json = need_object(definition, "action", path);
		const std::string inside = at(path, "action");
		const std::string &type = need_string(json, "type", inside);
		const ActionWord *word = find_action(type);
		if (word == nullptr)
			invalid(at(inside, "type"), "action " + shown(type) + " is not one of " + actions());
		n.kind = NodeKind::action;
		n.action = word->action;
		n.source = word->source;
		schema.need(word->source, at(inside, "type"), "action \"" + type + '"');
		need_moment(n, at(inside, "type"));
		const ComparatorWord &comparator = comparator_of(json, use_count, inside);
		n.count.comparator = comparator.comparator;
		n.count.negative = comparator.negative;
		n.count.values = numbers_of(json, comparator.comparator, inside);

		const Json &time = need_object(definition, "time", path);
		n.time = time_of(time, comparator_of(time, use_window, at(path, "time")).comparator, at(path, "time"));

		if (const Json *one = find(definition, "property"); one != nullptr && one->kind != CSEG_JSON_NULL)
			n.properties.push_back(event_property(n.source, *one, at(path, "property")));
		if (find(definition, "properties") != nullptr) {
			const std::vector<Json> &list = need_array(definition, "properties", path);
			for (size_t i = 0; i < list.size(); i++) {
				count_condition(at(at(path, "properties"), i));
				n.properties.push_back(event_property(n.source, list[i], at(at(path, "properties"), i)));
			}
		}
	}

	// The columns that say when an action took place.
	void need_moment(const Node &n, const std::string &path) {
		if (n.source != CSEG_SOURCE_SUBSCRIPTIONS) {
			schema.need(n.source, "time", path);
			return;
		}
		if (schema.column(n.source, "event") != nullptr) {
			schema.need(n.source, "time", path);
			return;
		}
		const char *role = n.action == Action::started_subscription   ? "started_time"
						   : n.action == Action::updated_subscription ? "updated_time"
																	  : "cancelled_time";
		schema.need(n.source, role, path);
	}

	PropertyTest event_property(CsegRuleSource source, const Json &json, const std::string &path) {
		check_object(json, path);
		const std::string &name = need_string(json, "property", path);
		PropertyTest test;
		if (source != CSEG_SOURCE_ORDERS)
			test.column = property_column(source, name, path);
		else if ((test.column = schema.column(source, name == "order_value" ? "amount" : name)) == nullptr)
			order_property(test, name, path);
		values(test, json, name == "order_tag", path);
		return test;
	}

	// What the orders themselves don't map may be known by their line items.
	void order_property(PropertyTest &test, const std::string &name, const std::string &path) {
		if (!schema.has(CSEG_SOURCE_LINE_ITEMS) || schema.column(CSEG_SOURCE_ORDERS, "order_id") == nullptr) {
			test.column = property_column(CSEG_SOURCE_ORDERS, name, path);
			return;
		}
		if (name == "items_number") {
			test.place = Place::items_number;
			test.cls = CSEG_COLUMN_NUMBER;
			return;
		}
		test.place = Place::items;
		test.column = schema.column(CSEG_SOURCE_LINE_ITEMS, name);
		if (test.column == nullptr)
			invalid(at(path, "property"),
					"property " + shown(name) + " is mapped neither by source \"orders\" nor by \"line_items\"",
					"They map " + schema.roles(CSEG_SOURCE_ORDERS) + ", " + schema.roles(CSEG_SOURCE_LINE_ITEMS) +
						"; see customer_segmentation.set_source.");
	}

	const CsegRuleColumn *property_column(CsegRuleSource source, const std::string &name, const std::string &path) {
		const CsegRuleColumn *column = schema.column(source, name);
		if (column == nullptr)
			invalid(at(path, "property"),
					"property " + shown(name) + " is not mapped by source \"" + cseg_rules_source_name(source) + '"',
					"It maps " + schema.roles(source) + "; see customer_segmentation.set_source.");
		return column;
	}

	void user_property(Node &n, const Json &definition, const std::string &path) {
		check_keys(definition, {"property"}, path);
		const Json &json = need_object(definition, "property", path);
		const std::string inside = at(path, "property");
		const std::string &name = need_string(json, "property", inside);
		PropertyTest test;
		n.kind = NodeKind::property;
		bool several = name == "customer_tag";
		if (!computed_property(test, name)) {
			schema.need(CSEG_SOURCE_CUSTOMERS, at(inside, "property"), "property " + shown(name));
			test.column = property_column(CSEG_SOURCE_CUSTOMERS, name, inside);
			schema.need(CSEG_SOURCE_CUSTOMERS, schema.identity_role(), at(inside, "property"));
		}
		values(test, json, several, inside);
		n.properties.push_back(std::move(test));
	}

	// Properties that follow from other sources, and have their history.
	bool computed_property(PropertyTest &test, const std::string &name) {
		test.cls = CSEG_COLUMN_NUMBER;
		if (schema.has(CSEG_SOURCE_ORDERS)) {
			if (name == "total_orders_number")
				return test.place = Place::orders_number, true;
			if (name == "customer_total_spend")
				return test.place = Place::spend, true;
			if (name == "customer_aov")
				return test.place = Place::average_order, true;
		}
		if (name == "customer_active_subscriptions_number" &&
			schema.column(CSEG_SOURCE_SUBSCRIPTIONS, "started_time") != nullptr &&
			schema.column(CSEG_SOURCE_SUBSCRIPTIONS, "cancelled_time") != nullptr)
			return test.place = Place::active_subscriptions, true;
		if (name == "customer_tag" && schema.has(CSEG_SOURCE_TAGS)) {
			test.place = Place::tags;
			test.column = schema.column(CSEG_SOURCE_TAGS, "customer_tag");
			return true;
		}
		return false;
	}

	// Comparator and values of a property whose column, or class, is known.
	void values(PropertyTest &test, const Json &json, bool several, const std::string &path) {
		if (test.column != nullptr)
			test.cls = static_cast<CsegColumnClass>(test.column->cls);
		several |= test.place == Place::items || test.place == Place::tags;
		const Use use = use_of(test.cls, several);
		const ComparatorWord &word = comparator_of(json, use, path);
		test.comparator = word.comparator;
		test.negative = word.negative;
		if (word.comparator == Comparator::is_set)
			return;
		switch (use) {
		case use_number:
			test.values = numbers_of(json, word.comparator, path);
			break;
		case use_boolean: {
			const Json &value = need(json, "value", path);
			if (value.kind != CSEG_JSON_TRUE && value.kind != CSEG_JSON_FALSE)
				invalid(at(path, "value"), "expected true or false, got " + described(value));
			test.values = {value.kind == CSEG_JSON_TRUE ? "true" : "false"};
			break;
		}
		case use_point:
			test.time = time_of(json, word.comparator, path);
			break;
		default:
			if (word.comparator == Comparator::is_in)
				test.values = list_of(json, path, text_of);
			else
				test.values = {text_of(need(json, "value", path), at(path, "value"))};
		}
	}

	void segment(Node &n, const Json &definition, const std::string &path) {
		check_keys(definition, {"property"}, path);
		const Json &json = need_object(definition, "property", path);
		const std::string inside = at(path, "property");
		const std::string &id = need_string(json, "value", inside);
		n.kind = NodeKind::segment;
		n.negative = comparator_of(json, use_segment, inside).negative;
		const auto known = std::find(model.segments.begin(), model.segments.end(), id);
		n.segment = static_cast<size_t>(known - model.segments.begin());
		if (known == model.segments.end())
			model.segments.push_back(id);
	}

	void rfm(Node &n, const Json &definition, const std::string &path) {
		check_keys(definition, {"properties"}, path);
		const std::vector<Json> &list = need_array(definition, "properties", path);
		if (list.empty())
			invalid(at(path, "properties"), "expected at least one property");
		schema.need(CSEG_SOURCE_ORDERS, path, "an RFM score");
		n.kind = NodeKind::all;
		for (size_t i = 0; i < list.size(); i++) {
			count_condition(at(at(path, "properties"), i));
			n.children.push_back(rfm_score(list[i], at(at(path, "properties"), i)));
		}
	}

	Node rfm_score(const Json &json, const std::string &path) {
		check_object(json, path);
		const std::string &name = need_string(json, "property", path);
		Node n;
		n.kind = NodeKind::rfm;
		n.path = path;
		if (name == "customer_rfm_recency")
			n.score = Score::recency;
		else if (name == "customer_rfm_frequency")
			n.score = Score::frequency;
		else if (name == "customer_rfm_monetary")
			n.score = Score::monetary;
		else
			invalid(at(path, "property"), "property " + shown(name) +
											  " is not one of customer_rfm_recency, customer_rfm_frequency, "
											  "customer_rfm_monetary");
		n.negative = comparator_of(json, use_scores, path).negative;
		n.scores = list_of(json, path, [this](const Json &value, const std::string &where) {
			const std::string text = number_of(value, where);
			const std::string most = std::to_string(schema.given.rfm_buckets);
			if (text.find('.') != std::string::npos || compare_numbers(text, "1") < 0 ||
				compare_numbers(text, most) > 0)
				invalid(where, "expected a score from 1 to " + most + ", got " + described(value),
						"The number of scores is the setting customer_segmentation.rfm_buckets.");
			return text;
		});
		return n;
	}

	const Schema &schema;
	Model model;
	size_t conditions = 0;
};

// ---- history ----------------------------------------------------------------------------------------------------

class History {
public:
	explicit History(const Schema &schema) : schema(schema) {}

	// The first filter on what is only known as it is now.
	const std::string *current(const Node &n) const {
		for (const Node &child : n.children)
			if (const std::string *path = current(child))
				return path;
		return is_current(n) ? &n.path : nullptr;
	}

	// Does a customer without any event belong? Then it matters since when there is the customer.
	bool holds_for_nobody(const Node &n) const {
		const auto holds = [this](const Node &child) { return holds_for_nobody(child); };
		switch (n.kind) {
		case NodeKind::all:
			return std::all_of(n.children.begin(), n.children.end(), holds);
		case NodeKind::any:
			return std::any_of(n.children.begin(), n.children.end(), holds);
		case NodeKind::none:
			return std::none_of(n.children.begin(), n.children.end(), holds);
		case NodeKind::action:
			return n.count.holds_for_zero();
		case NodeKind::property:
			return property_holds(n.properties.front());
		default:
			return n.negative;
		}
	}

private:
	bool is_current(const Node &n) const {
		if (n.kind == NodeKind::property) {
			const PropertyTest &test = n.properties.front();
			return test.place == Place::column ||
				   (test.place == Place::tags && schema.column(CSEG_SOURCE_TAGS, "time") == nullptr);
		}
		// A row per subscription is changed in place; a row per event is not.
		if (n.kind == NodeKind::action && n.source == CSEG_SOURCE_SUBSCRIPTIONS)
			return schema.column(n.source, "event") == nullptr &&
				   (n.action == Action::updated_subscription || !n.properties.empty());
		return false;
	}

	static bool property_holds(const PropertyTest &test) {
		if (test.place == Place::tags || test.place == Place::average_order)
			return test.negative;
		if (test.comparator == Comparator::is_set)
			return !test.negative;
		if (test.place == Place::column || test.comparator == Comparator::is_in)
			return true;
		return NumberTest{test.comparator, test.negative, test.values}.holds_for_zero();
	}

	const Schema &schema;
};

} // namespace

bool NumberTest::holds_for_zero() const {
	const int first = sign_of(values[0]);
	bool holds = false;
	switch (comparator) {
	case Comparator::greater_than:
		holds = first < 0;
		break;
	case Comparator::greater_or_equal:
		holds = first <= 0;
		break;
	case Comparator::less_than:
		holds = first > 0;
		break;
	case Comparator::less_or_equal:
		holds = first >= 0;
		break;
	case Comparator::between:
		holds = first <= 0 && sign_of(values[1]) >= 0;
		break;
	default:
		holds = first == 0;
	}
	return holds != negative;
}

const CsegRuleColumn *Schema::column(CsegRuleSource source, std::string_view role) const {
	check(source);
	for (size_t i = 0; i < given.n_columns; i++)
		if (given.columns[i].source == source && role == given.columns[i].role)
			return &given.columns[i];
	return nullptr;
}

std::string Schema::roles(CsegRuleSource source) const {
	std::string list;
	for (size_t i = 0; i < given.n_columns; i++)
		if (given.columns[i].source == source)
			list.append(list.empty() ? "" : ", ").append(given.columns[i].role);
	return list;
}

void Schema::check(CsegRuleSource source) const {
	if (given.broken[source] == nullptr)
		return;
	const std::string name = cseg_rules_source_name(source);
	throw Unsound{CSEG_RULE_NO_SOURCE, "$", "source \"" + name + "\" can't be used: " + given.broken[source],
				  "Call customer_segmentation.set_source('" + name +
					  "', ...) with what there is now, or with NULL to do without."};
}

void Schema::need(CsegRuleSource source, const std::string &path, const std::string &what) const {
	if (has(source))
		return;
	const std::string name = cseg_rules_source_name(source);
	throw Unsound{CSEG_RULE_NO_SOURCE, path, what + " needs source \"" + name + "\", which is not set",
				  "Call customer_segmentation.set_source('" + name +
					  "', your_table, columns) as the owner of the segment."};
}

const CsegRuleColumn &Schema::need(CsegRuleSource source, const char *role, const std::string &path) const {
	if (const CsegRuleColumn *found = column(source, role))
		return *found;
	const std::string name = cseg_rules_source_name(source);
	throw Unsound{CSEG_RULE_NO_SOURCE, path,
				  "this needs \"" + std::string(role) + "\" of source \"" + name + "\", which is not mapped",
				  "Call customer_segmentation.set_source('" + name + "', your_table, columns) with a column for it."};
}

Model parse(const Json &json, const Schema &schema) {
	Model model = Parser(schema).parse(json);
	const History history(schema);
	if (const std::string *path = history.current(model.root))
		model.current_state = *path;
	else if (schema.column(CSEG_SOURCE_CUSTOMERS, schema.identity_role()) != nullptr &&
			 schema.column(CSEG_SOURCE_CUSTOMERS, "time") == nullptr && history.holds_for_nobody(model.root))
		model.current_state = model.root.path;
	return model;
}

} // namespace cseg::rules
