// measure_cell.cpp
//    Size and speed of cells on data like the benchmark's size S. Prints one line per figure; times are of the
//    processor.
//
//    measure_cell [customers [segments [days]]]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <random>
#include <vector>

#include "core/core.h"

namespace {

void must(CsegCode code, const CsegError &err) {
	if (code != CSEG_OK) {
		std::fprintf(stderr, "error: %s\n", err.msg);
		std::exit(1);
	}
}

// Time of the processor, not of the wall: the machine may be shared.
double now_ms() {
	timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) / 1e6;
}

double ms_since(double start) {
	return now_ms() - start;
}

CsegValue decimal(int64_t mantissa, uint8_t scale) {
	CsegValue v{};
	v.mantissa = mantissa;
	v.kind = CSEG_DECIMAL;
	v.scale = scale;
	return v;
}

struct Customer {
	int64_t orders;
	int64_t cents;
};

} // namespace

int main(int argc, char **argv) {
	const uint32_t customers = argc > 1 ? static_cast<uint32_t>(std::atoi(argv[1])) : 100000;
	const uint32_t segments = argc > 2 ? static_cast<uint32_t>(std::atoi(argv[2])) : 20;
	const uint8_t days = argc > 3 ? static_cast<uint8_t>(std::atoi(argv[3])) : 60;
	std::mt19937_64 rng(7);
	std::lognormal_distribution<double> amount(3.8, 0.9);
	std::geometric_distribution<int> first_orders(0.25);
	const auto chance = [&](double p) { return static_cast<double>(rng() >> 11) * 0x1p-53 < p; };
	const auto cents = [&] { return static_cast<int64_t>(std::llround(amount(rng) * 100)); };
	std::vector<Customer> people(customers);
	for (Customer &c : people) {
		c = {first_orders(rng), 0};
		for (int64_t i = 0; i < c.orders; i++)
			c.cents += cents();
	}
	std::vector<std::vector<bool>> member(segments, std::vector<bool>(customers));
	std::vector<double> share(segments);
	for (uint32_t s = 0; s < segments; s++) {
		share[s] = 0.005 * std::pow(80.0, s / std::max(1.0, segments - 1.0));
		for (uint32_t c = 0; c < customers; c++)
			member[s][c] = chance(share[s]);
	}

	CsegError err;
	CsegBatch *batch;
	must(cseg_batch_new(&batch, &err), err);
	double insert_ms = 0;
	double settle_ms = 0;
	uint64_t rows = 0;
	std::vector<uint32_t> order;
	for (uint8_t day = 0; day < days; day++) {
		for (Customer &c : people)
			if (chance(0.01)) {
				c.orders++;
				c.cents += cents();
			}
		for (uint32_t s = 0; s < segments; s++) {
			order.clear();
			for (uint32_t c = 0; c < customers; c++) {
				if (member[s][c] ? chance(0.01) : chance(0.01 * share[s] / (1 - share[s])))
					member[s][c] = !member[s][c];
				if (member[s][c])
					order.push_back(c);
			}
			std::shuffle(order.begin(), order.end(), rng);
			const auto start = now_ms();
			for (const uint32_t c : order) {
				const CsegValue v[CSEG_MEASURES] = {decimal(1, 0), decimal(people[c].orders, 0),
													decimal(people[c].cents, 2)};
				must(cseg_batch_insert(batch, s, day, c, v, &err), err);
			}
			insert_ms += ms_since(start);
			rows += order.size();
			if (cseg_batch_staged(batch) > 250000) {
				const auto from = now_ms();
				must(cseg_batch_settle(batch, nullptr, &err), err);
				settle_ms += ms_since(from);
			}
		}
	}
	const auto from = now_ms();
	must(cseg_batch_settle(batch, nullptr, &err), err);
	settle_ms += ms_since(from);
	const uint32_t n = cseg_batch_cells(batch);
	std::printf("rows %llu, cells %u, batch memory %.1f MB\n", static_cast<unsigned long long>(rows), n,
				static_cast<double>(cseg_batch_bytes(batch)) / 1e6);
	std::printf("batch: insert %.1f ns/row, settle %.1f ns/row (%.0f ms)\n",
				insert_ms * 1e6 / static_cast<double>(rows), settle_ms * 1e6 / static_cast<double>(rows), settle_ms);

	struct Bytes {
		const uint8_t *at;
		size_t len;
	};
	std::vector<Bytes> encoded(n);
	size_t total = 0;
	uint64_t entries = 0;
	auto start = now_ms();
	for (uint32_t i = 0; i < n; i++) {
		uint32_t group;
		uint32_t container;
		CsegCell *cell = cseg_batch_cell(batch, i, &group, &container);
		must(cseg_cell_encode(cell, &encoded[i].at, &encoded[i].len, &err), err);
		total += encoded[i].len;
	}
	std::printf("encode %.1f ms, %zu bytes, %.4f bytes/row\n", ms_since(start), total,
				static_cast<double>(total) / static_cast<double>(rows));
	for (uint32_t i = 0; i < n; i++) {
		uint32_t group;
		uint32_t container;
		uint32_t people_here;
		uint64_t rows_here;
		uint64_t removed;
		must(
			cseg_cell_counts(cseg_batch_cell(batch, i, &group, &container), &people_here, &rows_here, &removed, &err),
			err);
		entries += people_here;
	}
	std::vector<CsegCell *> cells(n);
	start = now_ms();
	for (uint32_t i = 0; i < n; i++)
		must(cseg_cell_decode(&cells[i], encoded[i].at, encoded[i].len, &err), err);
	size_t memory = 0;
	const double decode_ms = ms_since(start);
	for (const CsegCell *cell : cells)
		memory += cseg_cell_bytes(cell);
	std::printf("decode %.1f ms, %llu entries, %.1f bytes of memory an entry\n", decode_ms,
				static_cast<unsigned long long>(entries), static_cast<double>(memory) / static_cast<double>(entries));
	start = now_ms();
	for (uint32_t i = 0; i < n; i++) {
		CsegCell *cell;
		must(cseg_cell_decode_range(&cell, encoded[i].at, encoded[i].len, 17000, 17000, &err), err);
		cseg_cell_free(cell);
	}
	std::printf("decode of one customer %.3f ms a cell\n", ms_since(start) / n);

	start = now_ms();
	uint64_t seen = 0;
	int64_t sum = 0;
	for (CsegCell *cell : cells) {
		CsegCursor *cursor;
		must(cseg_cursor_new(&cursor, cell, &err), err);
		for (uint8_t slot = 0; slot < days; slot++) {
			CsegSlotView view;
			must(cseg_cursor_seek(cursor, slot, 7, &view, &err), err);
			for (uint32_t i = 0; i < view.n; i++)
				sum += view.value[CSEG_M_REVENUE][view.rows[i]].mantissa;
			seen += view.n;
		}
		cseg_cursor_free(cursor);
	}
	double took = ms_since(start);
	std::printf("cursor %.1f ms, %.2f ns/row (sum %lld)\n", took, took * 1e6 / static_cast<double>(seen),
				static_cast<long long>(sum));
	start = now_ms();
	std::vector<CsegTotals> totals(CSEG_SLOTS);
	for (CsegCell *cell : cells) {
		uint64_t slots;
		must(cseg_cell_totals(cell, totals.data(), &slots, &err), err);
	}
	std::printf("totals %.1f ms\n", ms_since(start));

	// One more day: a delta per cell with all members.
	size_t delta_bytes = 0;
	double apply_ms = 0;
	double change_ms = 0;
	for (CsegCell *cell : cells) {
		CsegCell *delta;
		must(cseg_cell_new(&delta, &err), err);
		CsegValue v[CSEG_MEASURES];
		bool found;
		for (uint32_t low = 0; low < CSEG_CONTAINER_SIZE; low++) {
			must(cseg_cell_get(cell, static_cast<uint16_t>(low), static_cast<uint8_t>(days - 1), &found, v, &err),
				 err);
			if (found && !chance(0.01))
				must(cseg_cell_insert(delta, static_cast<uint16_t>(low), days, v, &err), err);
		}
		const uint8_t *bytes;
		size_t len;
		must(cseg_cell_encode(delta, &bytes, &len, &err), err);
		delta_bytes += len;
		start = now_ms();
		uint64_t slots;
		must(cseg_cell_change(cell, delta, totals.data(), &slots, &err), err);
		change_ms += ms_since(start);
		start = now_ms();
		must(cseg_cell_apply(cell, delta, false, &err), err);
		apply_ms += ms_since(start);
		cseg_cell_free(delta);
	}
	std::printf("one more day: %zu bytes of deltas, change %.1f ms, apply %.1f ms\n", delta_bytes, change_ms,
				apply_ms);
	for (CsegCell *cell : cells)
		cseg_cell_free(cell);
	cseg_batch_free(batch);
}
