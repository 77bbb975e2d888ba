// rules_words.hpp
//    The words of rules: comparators, units, actions, sources and their roles.
#pragma once

#include <string>
#include <string_view>

#include "rules.hpp"

namespace cseg::rules {

// Where a comparator may stand.
enum Use : unsigned {
	use_text = 1,
	use_texts = 2, // of a property that may have several values
	use_number = 4,
	use_boolean = 8,
	use_point = 16,  // a property that is a point in time
	use_count = 32,  // of actions
	use_window = 64, // in which actions count
	use_segment = 128,
	use_scores = 256
};

struct ComparatorWord {
	const char *name;
	Comparator comparator;
	bool negative;
	unsigned uses;
};

struct ActionWord {
	const char *name;
	Action action;
	CsegRuleSource source;
};

const ComparatorWord *find_comparator(std::string_view name, Use use);
std::string comparators(Use use); // the names, with commas

const ActionWord *find_action(std::string_view name);
std::string actions();

bool find_unit(std::string_view name, Unit *unit);
uint64_t most_of(Unit unit); // some thousand years

} // namespace cseg::rules
