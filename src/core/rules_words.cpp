// rules_words.cpp
//    The words of rules: comparators, units, actions, sources and their roles.
#include "rules_words.hpp"

namespace cseg::rules {
namespace {

constexpr unsigned kStrings = use_text | use_texts;
constexpr unsigned kNumbers = use_number | use_count;
constexpr unsigned kTimes = use_window | use_point;
constexpr unsigned kProperties = use_text | use_texts | use_number | use_boolean | use_point;

constexpr ComparatorWord kComparators[] = {
	{"equal", Comparator::equal, false, kStrings | kNumbers | use_boolean},
	{"not_equal", Comparator::equal, true, kStrings | kNumbers},
	{"contain", Comparator::contain, false, kStrings},
	{"not_contain", Comparator::contain, true, kStrings},
	{"start_with", Comparator::start_with, false, kStrings},
	{"not_start_with", Comparator::start_with, true, kStrings},
	{"end_with", Comparator::end_with, false, kStrings},
	{"not_end_with", Comparator::end_with, true, kStrings},
	{"is_in", Comparator::is_in, false, kStrings | use_number | use_scores},
	{"is_not_in", Comparator::is_in, true, kStrings | use_number | use_scores},
	{"array_contains", Comparator::array_contains, false, use_texts},
	{"array_not_contains", Comparator::array_contains, true, use_texts},
	{"greater_than", Comparator::greater_than, false, kNumbers},
	{"less_than", Comparator::less_than, false, kNumbers},
	{"greater_or_equal", Comparator::greater_or_equal, false, kNumbers},
	{"less_or_equal", Comparator::less_or_equal, false, kNumbers},
	{"between", Comparator::between, false, kNumbers | kTimes},
	{"over_all_time", Comparator::over_all_time, false, use_window},
	{"under", Comparator::under, false, kTimes},
	{"over", Comparator::over, false, kTimes},
	{"within", Comparator::within, false, kTimes},
	{"before", Comparator::before, false, kTimes},
	{"after", Comparator::after, false, kTimes},
	{"is_set", Comparator::is_set, false, kProperties},
	{"is_not_set", Comparator::is_set, true, kProperties},
	{"is", Comparator::is, false, use_segment},
	{"is_not", Comparator::is, true, use_segment},
};

constexpr ActionWord kActions[] = {
	{"made_purchase", Action::made_purchase, CSEG_SOURCE_ORDERS},
	{"new_customer_purchase", Action::new_customer_purchase, CSEG_SOURCE_ORDERS},
	{"returning_customer_purchase", Action::returning_customer_purchase, CSEG_SOURCE_ORDERS},
	{"clicked_ad", Action::clicked_ad, CSEG_SOURCE_CLICKS},
	{"visited_url", Action::visited_url, CSEG_SOURCE_VISITS},
	{"active_on_site", Action::active_on_site, CSEG_SOURCE_VISITS},
	{"started_subscription", Action::started_subscription, CSEG_SOURCE_SUBSCRIPTIONS},
	{"updated_subscription", Action::updated_subscription, CSEG_SOURCE_SUBSCRIPTIONS},
	{"cancelled_subscription", Action::cancelled_subscription, CSEG_SOURCE_SUBSCRIPTIONS},
	{"added_to_cart", Action::added_to_cart, CSEG_SOURCE_CARTS},
	{"started_checkout", Action::started_checkout, CSEG_SOURCE_CHECKOUTS},
};

struct UnitWord {
	const char *name;
	Unit unit;
	uint64_t most;
};

constexpr UnitWord kUnits[] = {
	{"hour", Unit::hour, 8766000}, {"day", Unit::day, 365250}, {"week", Unit::week, 52179},
	{"month", Unit::month, 12000}, {"year", Unit::year, 1000},
};

constexpr uint8_t kText = 1 << CSEG_COLUMN_TEXT;
constexpr uint8_t kTextOrTexts = kText | 1 << CSEG_COLUMN_TEXTS;
constexpr uint8_t kNumber = 1 << CSEG_COLUMN_NUMBER;
constexpr uint8_t kTime = 1 << CSEG_COLUMN_INSTANT | 1 << CSEG_COLUMN_LOCAL;

constexpr CsegRuleRole kCustomerRoles[] = {
	{"customer_id", false, kText},
	{"email", false, kText},
	{"time", false, kTime},
	{"total_orders_number", false, kNumber},
	{"customer_aov", false, kNumber},
	{"customer_total_spend", false, kNumber},
	{"customer_active_subscriptions_number", false, kNumber},
	{nullptr, false, 0},
};
constexpr CsegRuleRole kOrderRoles[] = {
	{"customer_id", false, kText}, {"email", false, kText},          {"time", true, kTime}, {"amount", true, kNumber},
	{"order_id", false, kText},    {"items_number", false, kNumber}, {nullptr, false, 0},
};
constexpr CsegRuleRole kLineItemRoles[] = {
	{"order_id", true, kText}, {"quantity", false, kNumber}, {nullptr, false, 0}};
constexpr CsegRuleRole kTagRoles[] = {
	{"customer_id", false, kText}, {"email", false, kText},        {"customer_tag", true, kTextOrTexts},
	{"time", false, kTime},        {"removed_time", false, kTime}, {nullptr, false, 0},
};
constexpr CsegRuleRole kSubscriptionRoles[] = {
	{"customer_id", false, kText},    {"email", false, kText},
	{"time", false, kTime},           {"event", false, kText},
	{"started_time", false, kTime},   {"updated_time", false, kTime},
	{"cancelled_time", false, kTime}, {nullptr, false, 0},
};
constexpr CsegRuleRole kEventRoles[] = {
	{"customer_id", false, kText}, {"email", false, kText}, {"time", true, kTime}, {nullptr, false, 0}};

struct SourceWord {
	const char *name;
	const CsegRuleRole *roles;
};

constexpr SourceWord kSources[CSEG_SOURCES] = {
	{"customers", kCustomerRoles},
	{"orders", kOrderRoles},
	{"line_items", kLineItemRoles},
	{"tags", kTagRoles},
	{"subscriptions", kSubscriptionRoles},
	{"clicks", kEventRoles},
	{"visits", kEventRoles},
	{"carts", kEventRoles},
	{"checkouts", kEventRoles},
};

void add_name(std::string &list, const char *name) {
	if (!list.empty())
		list += ", ";
	list += name;
}

} // namespace

const ComparatorWord *find_comparator(std::string_view name, Use use) {
	for (const ComparatorWord &word : kComparators)
		if (name == word.name && (word.uses & use) != 0)
			return &word;
	return nullptr;
}

std::string comparators(Use use) {
	std::string list;
	for (const ComparatorWord &word : kComparators)
		if ((word.uses & use) != 0)
			add_name(list, word.name);
	return list;
}

const ActionWord *find_action(std::string_view name) {
	for (const ActionWord &word : kActions)
		if (name == word.name)
			return &word;
	return nullptr;
}

std::string actions() {
	std::string list;
	for (const ActionWord &word : kActions)
		add_name(list, word.name);
	return list;
}

bool find_unit(std::string_view name, Unit *unit) {
	for (const UnitWord &word : kUnits)
		if (name == word.name) {
			*unit = word.unit;
			return true;
		}
	return false;
}

uint64_t most_of(Unit unit) {
	for (const UnitWord &word : kUnits)
		if (word.unit == unit)
			return word.most;
	return 0;
}

} // namespace cseg::rules

using namespace cseg::rules;

const char *cseg_rules_source_name(CsegRuleSource source) {
	return kSources[source].name;
}

const CsegRuleRole *cseg_rules_roles(CsegRuleSource source) {
	return kSources[source].roles;
}
