// rules.cpp
//    Rules behind the functions of core.h.
#include "rules.hpp"

#include <memory>
#include <optional>

#include "guard.hpp"

using namespace cseg;
using rules::Unsound;

struct CsegRules {
	rules::Model model;
	std::optional<Unsound> unsound;
	rules::Query query;

	// What the caller sees of the above.
	std::vector<CsegString> segments;
	std::deque<std::vector<CsegString>> values;
	std::vector<CsegRuleParam> params;
};

namespace {

CsegString view_of(const std::string &text) {
	return {text.data(), text.size()};
}

void report(CsegRules &r, CsegRuleProblem *problem) {
	*problem = {CSEG_RULE_SOUND, "", "", ""};
	if (r.unsound)
		*problem = {r.unsound->fault, r.unsound->path.c_str(), r.unsound->message.c_str(), r.unsound->hint.c_str()};
}

} // namespace

CsegCode cseg_rules_parse(CsegRules **out, const CsegJsonEvent *events, size_t n_events, const CsegRuleSchema *schema,
						  CsegRuleProblem *problem, CsegError *err) {
	return guard(err, [&] {
		auto r = std::make_unique<CsegRules>();
		try {
			r->model = rules::parse(rules::read_json(events, n_events), rules::Schema(*schema));
		} catch (Unsound &unsound) {
			r->unsound = std::move(unsound);
		}
		report(*r, problem);
		*out = r.release();
	});
}

void cseg_rules_free(void *rules) {
	delete static_cast<CsegRules *>(rules);
}

CsegCode cseg_rules_segments(CsegRules *r, const CsegString **ids, size_t *n, CsegError *err) {
	return guard(err, [&] {
		r->segments.clear();
		for (const std::string &id : r->model.segments)
			r->segments.push_back(view_of(id));
		*ids = r->segments.data();
		*n = r->segments.size();
	});
}

CsegCode cseg_rules_compile(CsegRules *r, const CsegRuleSchema *schema, const CsegRuleSegment *segments,
							CsegRuleQuery *query, CsegRuleProblem *problem, CsegError *err) {
	return guard(err, [&] {
		r->query = {};
		r->values.clear();
		r->params.clear();
		r->unsound.reset();
		try {
			r->query = rules::compile(r->model, rules::Schema(*schema), segments);
		} catch (Unsound &unsound) {
			r->unsound = std::move(unsound);
		}
		report(*r, problem);
		for (const rules::Param &param : r->query.params) {
			std::vector<CsegString> &values = r->values.emplace_back();
			for (const std::string &value : param.values)
				values.push_back(view_of(value));
			r->params.push_back({values.data(), values.size(), static_cast<uint8_t>(param.type)});
		}
		query->sql = view_of(r->query.sql);
		query->params = r->params.data();
		query->n_params = r->params.size();
		query->references = r->query.references.data();
		query->n_references = r->query.references.size();
		query->current_state = r->query.current_state.empty() ? nullptr : r->query.current_state.c_str();
	});
}
