// Generator of the benchmark's data: who was a member of which segment on which day.
//
// Everything follows from the size and the seed, so two runs emit the same bytes, and a range of days or one
// segment is exactly the part that a full run would have emitted. Nothing here knows of PostgreSQL but the text
// format of COPY: columns in the order of the table, rows of an instance in random order.
//
// The model: customers with a customer id and an e-mail address, orders and revenue of their own (the same in
// every segment); segments whose size stays while 1 % of the members change each day; a day is simulated for all
// segments, also for those that store an instance only every other day.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iterator>
#include <memory>
#include <numbers>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

namespace {

constexpr double smallest_share = 0.005;
constexpr double largest_share = 0.40;
constexpr double churn_per_day = 0.01;
constexpr double ordering_per_day = 0.01;
constexpr double new_per_day = 0.002;
constexpr double orders_per_customer = 5.24; // of the orders table that an instance is joined with
constexpr std::int64_t seconds_per_day = 86400;
constexpr std::int64_t first_day = 1756080000; // 2025-08-25

struct Shape {
	const char *name;
	std::uint32_t customers;
	unsigned segments;
	unsigned days;
	double rows; // of all days together, reached by bending the curve of the sizes
};

constexpr std::array shapes{
    Shape{"XS", 5'000, 8, 20, 60e3},
    Shape{"S", 100'000, 20, 60, 10.5e6},
    Shape{"M", 1'000'000, 50, 90, 450e6},
};

[[noreturn]] void die(const std::string &message) {
	std::fprintf(stderr, "gen: %s\n", message.c_str());
	std::exit(2);
}

std::uint64_t mix(std::uint64_t x) {
	x += 0x9e3779b97f4a7c15;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

// The distributions of the standard library differ between its implementations; these do not.
class Random {
public:
	explicit Random(std::uint64_t seed) : state(mix(seed)) {}

	std::uint64_t next() {
		state += 0x9e3779b97f4a7c15;
		return mix(state);
	}

	std::uint32_t below(std::uint32_t bound) { return static_cast<std::uint32_t>(((next() >> 32) * bound) >> 32); }

	double unit() { return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53; }

	double normal() { return std::sqrt(-2 * std::log(unit())) * std::cos(2 * std::numbers::pi * unit()); }

	// What one order is worth: half of them less than 42, a few many times that.
	std::int64_t order_cents() { return std::max<std::int64_t>(1, std::llround(4200 * std::exp(0.7 * normal()))); }

private:
	std::uint64_t state;
};

// ---- identities -----------------------------------------------------------------------------------------------

constexpr std::array first_names{
    "emma",    "olivia",  "ava",     "sophia",  "isabella", "mia",     "amelia",   "harper",  "evelyn",  "abigail",
    "emily",   "ella",    "lily",    "grace",   "chloe",    "zoe",     "nora",     "hannah",  "sarah",   "laura",
    "anna",    "julia",   "marie",   "lena",    "katharina", "sabine", "petra",    "claire",  "camille", "lucia",
    "elena",   "carmen",  "sofia",   "martina", "giulia",   "chiara",  "ingrid",   "astrid",  "freya",   "aisha",
    "fatima",  "priya",   "ananya",  "mei",     "yuki",     "jessica", "ashley",   "jennifer", "amanda", "stephanie",
    "liam",    "noah",    "oliver",  "james",   "william",  "benjamin", "lucas",   "henry",   "michael", "daniel",
    "david",   "joseph",  "matthew", "samuel",  "john",     "robert",  "thomas",   "andrew",  "joshua",  "ryan",
    "kevin",   "brian",   "eric",    "stefan",  "andreas",  "jan",     "lukas",    "felix",   "jonas",   "pierre",
    "antoine", "hugo",    "carlos",  "javier",  "miguel",   "diego",   "marco",    "luca",    "matteo",  "lars",
    "erik",    "bjorn",   "omar",    "ali",     "raj",      "arjun",   "wei",      "hiroshi", "ken",     "christopher",
};

constexpr std::array last_names{
    "smith",    "johnson",  "williams", "brown",    "jones",    "garcia",   "miller",   "davis",    "rodriguez",
    "martinez", "hernandez", "lopez",   "wilson",   "anderson", "taylor",   "moore",    "jackson",  "martin",
    "lee",      "perez",    "thompson", "white",    "harris",   "sanchez",  "clark",    "ramirez",  "lewis",
    "robinson", "walker",   "young",    "allen",    "king",     "wright",   "scott",    "torres",   "nguyen",
    "hill",     "flores",   "green",    "adams",    "nelson",   "baker",    "hall",     "rivera",   "campbell",
    "mitchell", "carter",   "roberts",  "phillips", "evans",    "turner",   "parker",   "collins",  "edwards",
    "stewart",  "morris",   "murphy",   "cook",     "rogers",   "morgan",   "cooper",   "peterson", "bailey",
    "reed",     "kelly",    "howard",   "ward",     "cox",      "diaz",     "richardson", "wood",   "watson",
    "brooks",   "bennett",  "gray",     "james",    "reyes",    "cruz",     "hughes",   "price",    "myers",
    "long",     "foster",   "sanders",  "ross",     "morales",  "powell",   "sullivan", "russell",  "ortiz",
    "muller",   "schmidt",  "schneider", "fischer", "weber",    "meyer",    "wagner",   "becker",   "schulz",
    "hoffmann", "dubois",   "durand",   "moreau",   "laurent",  "rossi",    "ferrari",  "bianchi",  "romano",
    "hansen",   "nielsen",  "larsen",   "olsen",    "johansson", "lindberg", "patel",   "singh",    "kumar",
    "sharma",   "khan",     "ahmed",    "chen",     "wang",     "zhang",    "tanaka",   "sato",     "kowalski",
    "novak",    "ivanov",   "silva",    "santos",   "costa",    "fernandez", "gonzalez", "murray",  "fraser",
};

// Shares of 1,000; what is left goes to the domains of companies.
constexpr std::array<std::pair<int, const char *>, 14> domains{{
    {430, "gmail.com"}, {135, "yahoo.com"}, {105, "hotmail.com"}, {80, "outlook.com"}, {75, "icloud.com"},
    {30, "aol.com"}, {18, "live.com"}, {16, "gmx.de"}, {14, "web.de"}, {12, "comcast.net"},
    {12, "me.com"}, {11, "msn.com"}, {9, "orange.fr"}, {8, "proton.me"},
}};

struct Text {
	std::uint8_t length;
	char bytes[47];
	void set(const std::string &s) {
		if (s.size() > sizeof bytes)
			die("identity too long: " + s);
		length = static_cast<std::uint8_t>(s.size());
		std::memcpy(bytes, s.data(), s.size());
	}
};

// One to one on 41 bits, so ids are distinct without a table of those taken.
std::uint64_t scatter(std::uint64_t x) {
	constexpr std::uint64_t mask = (std::uint64_t{1} << 41) - 1;
	for (std::uint64_t odd : {0x1b873593cc9e2d51ull, 0x2545f4914f6cdd1dull}) {
		x = (x * odd) & mask;
		x ^= x >> 21;
	}
	return x;
}

std::string make_email(Random &random) {
	const char *first = first_names[random.below(first_names.size())];
	const char *last = last_names[random.below(last_names.size())];
	std::string s;
	const std::uint32_t style = random.below(100);
	if (style < 62)
		s = std::string(first) + '.' + last;
	else if (style < 74)
		s = std::string(first) + '_' + last;
	else if (style < 84)
		s = std::string(1, first[0]) + '.' + last;
	else if (style < 92)
		s = std::string(1, first[0]) + last;
	else
		s = std::string(first) + last[0];
	const std::uint32_t number = random.below(100);
	if (number < 60)
		s += std::to_string(random.below(100));
	else if (number < 70)
		s += std::to_string(1950 + random.below(58));
	s += '@';
	int dice = static_cast<int>(random.below(1000));
	for (const auto &[share, domain] : domains) {
		if (dice < share)
			return s + domain;
		dice -= share;
	}
	static constexpr std::array suffixes{".com", ".net", ".co.uk", ".io", ".org"};
	s += last_names[random.below(last_names.size())];
	static constexpr std::array trades{"media", "group", "law", "it", "shop"};
	s += trades[random.below(trades.size())];
	return s + suffixes[random.below(suffixes.size())];
}

class Customers {
public:
	Customers(std::uint64_t seed, std::uint32_t initial)
	    : id_seed(mix(seed) & ((std::uint64_t{1} << 41) - 1)), random(seed + 1) {
		for (std::uint32_t i = 0; i < initial; i++)
			add(true);
	}

	std::uint32_t count() const { return static_cast<std::uint32_t>(orders.size()); }

	void one_day() {
		const auto fresh = static_cast<std::uint32_t>(std::lround(new_per_day * count()));
		const auto ordering = static_cast<std::uint32_t>(std::lround(ordering_per_day * count()));
		for (std::uint32_t i = 0; i < ordering; i++)
			order(random.below(count()));
		for (std::uint32_t i = 0; i < fresh; i++)
			add(false);
	}

	std::vector<Text> ids, emails;
	std::vector<std::uint32_t> orders;
	std::vector<std::int64_t> cents;

private:
	void order(std::uint32_t c) {
		orders[c]++;
		cents[c] += random.order_cents();
	}

	// Customers of the first day bring a past; later ones arrive with their first order, or with none yet.
	void add(bool with_past) {
		const std::uint32_t c = count();
		Text id, email;
		id.set(std::to_string(5'000'000'000'000 + scatter(id_seed ^ c)));
		std::string address;
		do
			address = make_email(random);
		while (!taken.insert(address).second);
		email.set(address);
		ids.push_back(id);
		emails.push_back(email);
		orders.push_back(0);
		cents.push_back(0);
		std::uint32_t past = random.below(10) < 8 ? 1 : 0;
		while (with_past && past > 0 && past < 60 && random.below(100) < 62)
			past++;
		while (past-- > 0)
			order(c);
	}

	std::uint64_t id_seed;
	Random random;
	std::unordered_set<std::string> taken;
};

// ---- segments -------------------------------------------------------------------------------------------------

constexpr std::array segment_names{
    "At least 3 orders", "Bought in the last 30 days", "VIP: top spenders", "One-time buyers", "Win back: no order for 180 days",
    "Newsletter subscribers", "Average order above 100", "Bought with a discount code", "Lapsed subscribers",
    "Second order within 60 days", "Cart abandoners", "Gift card buyers", "Returned at least one item", "Black Friday buyers",
    "Loyal: 12 months in a row", "Bought Skin Care", "Bought Accessories", "Visited pricing page", "Clicked spring campaign",
    "Active subscription",
};

std::string format_time(std::int64_t seconds, const char *format) {
	const std::time_t t = seconds;
	std::tm parts{};
	gmtime_r(&t, &parts);
	char buffer[32];
	return {buffer, std::strftime(buffer, sizeof buffer, format, &parts)};
}

class Segment {
public:
	Segment(std::uint64_t seed, unsigned number, unsigned of, std::uint32_t size, const Customers &customers)
	    : by_email(number % 2 == 1), daily(number % 5 != 3), seed(mix(seed ^ (number * 0x51ed270bull))), random(this->seed) {
		// As in the tool that these tables come from, an id begins with the moment of its creation.
		const std::int64_t created = first_day - seconds_per_day * (40 + random.below(900)) + random.below(seconds_per_day);
		char text[40];
		std::snprintf(text, sizeof text, "%08llx%010llx%06x", static_cast<unsigned long long>(created),
			      static_cast<unsigned long long>(random.next() & 0xffffffffff), 0x2ea000 + number * 977);
		id = text;
		created_date = format_time(created, "%F %T");
		hour = 2 * 3600 + random.below(10 * 3600);
		name = segment_names[number % segment_names.size()];
		if (of > segment_names.size() && number >= segment_names.size())
			name += " (" + std::to_string(number / segment_names.size() + 1) + ")";

		std::vector<std::uint32_t> all(customers.count());
		for (std::uint32_t i = 0; i < all.size(); i++)
			all[i] = i;
		for (std::uint32_t i = 0; i < size; i++)
			std::swap(all[i], all[i + random.below(static_cast<std::uint32_t>(all.size()) - i)]);
		members.assign(all.begin(), all.begin() + size);
		is_member.resize(all.size());
		for (std::uint32_t m : members)
			is_member[m] = true;
	}

	bool stores(unsigned day) const { return daily || day % 2 == 1; }

	void one_day(std::uint32_t customers) {
		is_member.resize(customers);
		const auto leaving = static_cast<std::uint32_t>(std::lround(churn_per_day * static_cast<double>(members.size())));
		for (std::uint32_t i = 0; i < leaving; i++) {
			const std::uint32_t at = random.below(static_cast<std::uint32_t>(members.size()));
			is_member[members[at]] = false;
			members[at] = members.back();
			members.pop_back();
		}
		for (std::uint32_t i = 0; i < leaving;) {
			const std::uint32_t c = random.below(customers);
			if (is_member[c])
				continue;
			is_member[c] = true;
			members.push_back(c);
			i++;
		}
	}

	const std::vector<std::uint32_t> &shuffled(unsigned day) {
		Random order(seed ^ mix(day));
		emission = members;
		for (auto i = static_cast<std::uint32_t>(emission.size()); i > 1; i--)
			std::swap(emission[i - 1], emission[order.below(i)]);
		return emission;
	}

	std::string instance(unsigned day) const { return id + format_time(first_day + (day - 1) * seconds_per_day, "_%Y_%m_%d"); }

	std::string instance_created(unsigned day) const {
		const std::int64_t late = static_cast<std::int64_t>(mix(seed + day) % 600);
		return format_time(first_day + (day - 1) * seconds_per_day + hour + late, "%F %T");
	}

	const std::vector<std::uint32_t> &current() const { return members; }
	std::size_t size() const { return members.size(); }
	const char *schedule() const { return daily ? "once_a_day" : "once_every_other_day"; }
	const char *by() const { return by_email ? "email" : "customer_id"; }

	std::string id, name, created_date;
	bool by_email, daily;

private:
	std::uint64_t seed;
	Random random;
	std::int64_t hour;
	std::vector<std::uint32_t> members, emission;
	std::vector<bool> is_member;
};

// Shares of the customers, from the smallest to the largest segment: geometric, bent by an exponent.
std::vector<double> shares(unsigned count, double bend) {
	std::vector<double> result(count);
	for (unsigned i = 0; i < count; i++)
		result[i] = smallest_share * std::pow(largest_share / smallest_share, std::pow(i / (count - 1.0), bend));
	return result;
}

// Segment numbers are no order of size: 7 has no divisor in common with 8, 20 or 50.
unsigned rank_of(unsigned number, unsigned count) { return (number * 7 + 3) % count; }

double rows_of(const Shape &shape, double bend) {
	const auto share = shares(shape.segments, bend);
	double rows = 0;
	for (unsigned k = 0; k < shape.segments; k++)
		rows += share[rank_of(k, shape.segments)] * shape.customers * (k % 5 != 3 ? shape.days : (shape.days + 1) / 2);
	return rows;
}

// ---- output ---------------------------------------------------------------------------------------------------

class Output {
public:
	explicit Output(std::FILE *file) : file(file), buffer(std::make_unique<char[]>(capacity)) {}
	Output(const Output &) = delete;
	Output &operator=(const Output &) = delete;
	~Output() { flush(); }

	void put(std::string_view s) {
		if (capacity - used < s.size())
			flush();
		std::memcpy(&buffer[used], s.data(), s.size());
		used += s.size();
	}

	void put_number(std::uint64_t n) {
		char digits[20];
		char *p = std::end(digits);
		do
			*--p = static_cast<char>('0' + n % 10);
		while ((n /= 10) > 0);
		put({p, static_cast<std::size_t>(std::end(digits) - p)});
	}

	void put_cents(std::int64_t cents) {
		put_number(static_cast<std::uint64_t>(cents / 100));
		const char decimals[3] = {'.', static_cast<char>('0' + cents / 10 % 10), static_cast<char>('0' + cents % 10)};
		put({decimals, sizeof decimals});
	}

	void flush() {
		// A reader that has had enough (head) closes the pipe; that ends the run without a word.
		if (std::fwrite(buffer.get(), 1, used, file) != used || std::fflush(file) != 0)
			std::exit(1);
		used = 0;
	}

private:
	static constexpr std::size_t capacity = 1 << 20;
	std::FILE *file;
	std::unique_ptr<char[]> buffer;
	std::size_t used = 0;
};

struct Options {
	const Shape *shape = nullptr;
	std::uint64_t seed = 20250825;
	unsigned from = 1, to = 0;
	int segment = -1;
	bool list = false, totals = false, orders = false;
	std::string split, insert;
};

class Generator {
public:
	explicit Generator(const Options &options)
	    : options(options), shape(*options.shape), customers(options.seed, shape.customers) {
		double low = 0.2, high = 5;
		for (int i = 0; i < 60; i++) {
			const double middle = (low + high) / 2;
			(rows_of(shape, middle) > shape.rows ? low : high) = middle;
		}
		const auto share = shares(shape.segments, (low + high) / 2);
		for (unsigned k = 0; k < shape.segments; k++)
			segments.emplace_back(options.seed, k, shape.segments,
					      static_cast<std::uint32_t>(std::lround(share[rank_of(k, shape.segments)] * shape.customers)),
					      customers);
	}

	void run() {
		Output out(stdout);
		if (options.orders)
			return emit_orders(out);
		for (unsigned day = 1; day <= options.to; day++) {
			if (day > 1) {
				customers.one_day();
				for (auto &segment : segments)
					segment.one_day(customers.count());
			}
			if (day < options.from || options.list)
				continue;
			if (options.split.empty()) {
				emit_day(out, day);
				continue;
			}
			char name[32];
			std::snprintf(name, sizeof name, "/day%03u", day);
			std::FILE *file = std::fopen((options.split + name).c_str(), "wb");
			if (file == nullptr)
				die("cannot write to " + options.split + name);
			{
				Output part(file);
				emit_day(part, day);
			}
			if (std::fclose(file) != 0)
				die("cannot write to " + options.split + name);
		}
		if (options.list)
			list(out);
	}

private:
	void emit_day(Output &out, unsigned day) {
		for (unsigned k = 0; k < segments.size(); k++)
			if (segments[k].stores(day) && (options.segment < 0 || static_cast<unsigned>(options.segment) == k))
				options.totals ? emit_totals(out, segments[k], day) : emit_instance(out, segments[k], day);
	}

	void emit_instance(Output &out, Segment &segment, unsigned day) {
		const bool as_insert = !options.insert.empty();
		const std::string tab = as_insert ? "','" : "\t";
		const std::string head = as_insert ? "INSERT INTO " + options.insert + " VALUES ('" : "";
		const std::string middle = tab + segment.instance_created(day) + tab + segment.schedule() + tab + segment.by() + tab +
					   segment.created_date + tab + segment.id + tab + segment.instance(day) + tab +
					   segment.name + (as_insert ? "',1," : "\t1\t");
		const auto &texts = segment.by_email ? customers.emails : customers.ids;
		for (std::uint32_t c : segment.shuffled(day)) {
			out.put(head);
			out.put({texts[c].bytes, texts[c].length});
			out.put(middle);
			out.put_number(customers.orders[c]);
			out.put(as_insert ? "," : "\t");
			out.put_cents(customers.cents[c]);
			out.put(as_insert ? ");\n" : "\n");
		}
	}

	void emit_totals(Output &out, Segment &segment, unsigned day) {
		std::uint64_t orders = 0;
		std::int64_t cents = 0;
		for (std::uint32_t c : segment.current()) {
			orders += customers.orders[c];
			cents += customers.cents[c];
		}
		out.put(segment.instance(day) + "\t");
		out.put_number(segment.size());
		out.put("\t");
		out.put_number(orders);
		out.put("\t");
		out.put_cents(cents);
		out.put("\n");
	}

	void emit_orders(Output &out) {
		Random random(options.seed + 2);
		const auto count = static_cast<std::uint32_t>(orders_per_customer * shape.customers);
		for (std::uint32_t i = 1; i <= count; i++) {
			// Some customers order far more often than others.
			const auto c = static_cast<std::uint32_t>(customers.count() * std::pow(random.unit(), 1.5));
			out.put_number(i);
			out.put("\t");
			out.put({customers.ids[c].bytes, customers.ids[c].length});
			out.put("\t");
			out.put(format_time(first_day - 300 * seconds_per_day +
						static_cast<std::int64_t>(random.unit() * 300 * seconds_per_day),
					    "%F %T"));
			out.put("\t");
			out.put_cents(random.order_cents());
			out.put("\n");
		}
	}

	void list(Output &out) {
		for (unsigned k = 0; k < segments.size(); k++) {
			const Segment &segment = segments[k];
			const unsigned newest = segment.stores(options.to) ? options.to : options.to - 1;
			const unsigned step = segment.daily ? 1 : 2;
			const unsigned before = newest > step ? newest - step : newest;
			out.put(std::to_string(k) + '\t' + segment.id + '\t' + segment.by() + '\t' + segment.schedule() + '\t' +
				std::to_string(segment.size()) + '\t' + segment.instance(newest) + '\t' + segment.instance(before) + '\t' +
				segment.name + '\n');
		}
	}

	const Options &options;
	const Shape &shape;
	Customers customers;
	std::vector<Segment> segments;
};

Options parse(int argc, char **argv) {
	Options options;
	for (int i = 1; i < argc; i++) {
		const std::string_view argument = argv[i];
		const auto value = [&](std::string_view name) { return argument.starts_with(name) ? argv[i] + name.size() : nullptr; };
		if (const char *v = value("--seed="))
			options.seed = std::strtoull(v, nullptr, 10);
		else if (const char *v = value("--days=")) {
			if (std::sscanf(v, "%u..%u", &options.from, &options.to) != 2 || options.from < 1 || options.to < options.from)
				die("--days=a..b wants two days, the first is 1");
		} else if (const char *v = value("--segment="))
			options.segment = std::atoi(v);
		else if (const char *v = value("--split="))
			options.split = v;
		else if (const char *v = value("--insert="))
			options.insert = v;
		else if (argument == "--list")
			options.list = true;
		else if (argument == "--totals")
			options.totals = true;
		else if (argument == "--orders")
			options.orders = true;
		else
			for (const Shape &shape : shapes)
				if (argument == shape.name)
					options.shape = &shape;
		if (!argument.starts_with("--") && (options.shape == nullptr || argument != options.shape->name))
			die("no such size: " + std::string(argument));
		if (argument.starts_with("--") && argument.find('=') == argument.npos && argument != "--list" &&
		    argument != "--totals" && argument != "--orders")
			die("no such option: " + std::string(argument));
	}
	if (options.shape == nullptr)
		die("usage: gen XS|S|M [--seed=n] [--days=a..b] [--segment=k]"
		    " [--split=DIRECTORY | --insert=TABLE | --list | --totals | --orders]");
	if (options.to == 0)
		options.to = options.shape->days;
	return options;
}

} // namespace

int main(int argc, char **argv) {
	const Options options = parse(argc, argv);
	Generator(options).run();
}
