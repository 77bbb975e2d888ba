// cursor.cpp
//    The rows of a cell slot by slot: the way of full scans.
//
// A cursor keeps the current value of every wanted measure of every entry, and the events ordered by slot. A step
// forward applies the events between and tests one bit of each mask. Where one slot is all that is wanted, its
// entries are gathered instead, and their own events followed.
#include <array>
#include <memory>

#include "cell.hpp"
#include "guard.hpp"

namespace cseg {
namespace {

constexpr unsigned kAllMeasures = (1u << CSEG_MEASURES) - 1;

class Cursor {
public:
	explicit Cursor(const Matrix &matrix) : m(matrix) {}

	void seek(unsigned slot, unsigned measures, CsegSlotView *view) {
		if (slot >= CSEG_SLOTS || (measures & ~kAllMeasures) != 0 || (started && measures != wanted))
			throw std::logic_error("cursor: slot or measures out of range");
		if (!started)
			start(measures);
		if (slot + 1 < next_slot)
			rewind();
		for (; next_slot <= slot; next_slot++)
			apply_events(next_slot);
		collect(slot);
		show(m.low.data(), m.size(), view);
	}

	void gather(unsigned slot, unsigned measures, CsegSlotView *view) {
		if (slot >= CSEG_SLOTS || (measures & ~kAllMeasures) != 0 || started)
			throw std::logic_error("cursor: slot or measures out of range");
		wanted = measures;
		rows.resize(m.size());
		collect(slot);
		low.resize(n_rows);
		for (size_t k = 0; k < CSEG_MEASURES; k++)
			if (wanted >> k & 1)
				value[k].resize(n_rows);
		for (uint32_t at = 0; at < n_rows; at++) {
			const uint32_t entry = rows[at];
			low[at] = m.low[entry];
			if (wanted != 0)
				gather_values(slot, entry, at);
			rows[at] = at;
		}
		show(low.data(), n_rows, view);
	}

private:
	struct Event {
		uint32_t entry;
		uint32_t event;
	};

	void show(const uint16_t *entry_low, size_t n_entries, CsegSlotView *view) const {
		view->n = n_rows;
		view->rows = rows.data();
		view->n_entries = static_cast<uint32_t>(n_entries);
		view->entry_low = entry_low;
		for (size_t k = 0; k < CSEG_MEASURES; k++)
			view->value[k] = (wanted >> k & 1) ? value[k].data() : nullptr;
	}

	void gather_values(unsigned slot, uint32_t entry, uint32_t at) {
		Walk walk(m, entry);
		const Values &values = walk.to(slot);
		for (size_t k = 0; k < CSEG_MEASURES; k++)
			if (wanted >> k & 1)
				value[k][at] = export_value(values[k], m.pool);
	}

	void start(unsigned measures) {
		wanted = measures;
		rows.resize(m.size());
		for (size_t k = 0; k < CSEG_MEASURES; k++)
			if (wanted >> k & 1)
				value[k].resize(m.size());
		sort_events();
		rewind();
		started = true;
	}

	bool is_wanted(uint8_t key) const { return (wanted >> event_measure(key) & 1) != 0; }

	// By slot, counting: events_begin[s] .. events_begin[s + 1] are those of slot s.
	void sort_events() {
		events_begin = {};
		for (const uint8_t key : m.event_key)
			if (is_wanted(key))
				events_begin[event_slot(key) + 1]++;
		for (size_t s = 0; s < CSEG_SLOTS; s++)
			events_begin[s + 1] += events_begin[s];
		events.resize(events_begin[CSEG_SLOTS]);
		std::array<uint32_t, CSEG_SLOTS + 1> at = events_begin;
		uint32_t e = 0;
		for (uint32_t i = 0; i < m.size(); i++)
			for (; e < m.events_end[i]; e++)
				if (is_wanted(m.event_key[e]))
					events[at[event_slot(m.event_key[e])]++] = {i, e};
	}

	// First values may stand before their slot: the entry has no row there.
	void rewind() {
		for (size_t k = 0; k < CSEG_MEASURES; k++)
			for (size_t i = 0; i < value[k].size(); i++)
				value[k][i] = export_value(m.first(i, static_cast<int>(k)), m.pool);
		next_slot = 0;
	}

	void apply_events(unsigned slot) {
		for (uint32_t at = events_begin[slot]; at < events_begin[slot + 1]; at++) {
			const Event &e = events[at];
			value[event_measure(m.event_key[e.event])][e.entry] = export_value(m.event(e.event), m.pool);
		}
	}

	// Writes every candidate and keeps it by moving on: no branch to mispredict.
	void collect(unsigned slot) {
		uint32_t n = 0;
		const auto entries = static_cast<uint32_t>(m.size());
		uint32_t *const out = rows.data();
		const uint64_t *const set = m.set.data();
		for (uint32_t i = 0; i < entries; i++) {
			out[n] = i;
			n += static_cast<uint32_t>(set[i] >> slot & 1);
		}
		n_rows = n;
	}

	const Matrix &m;
	bool started = false;
	unsigned wanted = 0;
	unsigned next_slot = 0; // events of slots below are applied
	uint32_t n_rows = 0;
	std::vector<uint32_t> rows;
	std::vector<uint16_t> low; // of gathered entries
	std::array<std::vector<CsegValue>, CSEG_MEASURES> value;
	std::array<uint32_t, CSEG_SLOTS + 1> events_begin{};
	std::vector<Event> events;
};

} // namespace
} // namespace cseg

struct CsegCursor final {
	cseg::Cursor cursor;
};

using namespace cseg;

extern "C" {

CsegCode cseg_cursor_new(CsegCursor **out, CsegCell *cell, CsegError *err) {
	return guard(err, [&] { *out = new CsegCursor{Cursor(settled(cell))}; });
}

void cseg_cursor_free(void *cursor) {
	delete static_cast<CsegCursor *>(cursor);
}

CsegCode cseg_cursor_seek(CsegCursor *cursor, uint8_t slot, uint32_t measures, CsegSlotView *view, CsegError *err) {
	return guard(err, [&] { cursor->cursor.seek(slot, measures, view); });
}

CsegCode cseg_cursor_gather(CsegCursor *cursor, uint8_t slot, uint32_t measures, CsegSlotView *view, CsegError *err) {
	return guard(err, [&] { cursor->cursor.gather(slot, measures, view); });
}

} // extern "C"
