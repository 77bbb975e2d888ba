// raw_identities MAIN TOAST
//    Prints every identity that the files of a relation still hold, one a line, in whatever state the tuples are:
//    what somebody with the disk in hands could read. For the test of erasing.
//
// Reads pages as PostgreSQL writes them (8 kB, little-endian): each item that has storage, dead or alive. Dictionary
// records lie in the main file, or their bodies in pieces in the TOAST file.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "core/core.h"

namespace {

constexpr size_t kPage = 8192;
constexpr size_t kPageHeader = 24;
constexpr size_t kRecordHeader = 24;
using Bytes = std::vector<uint8_t>;

uint32_t number(const uint8_t *p, int bytes) {
	uint32_t v = 0;
	for (int i = 0; i < bytes; i++)
		v |= uint32_t{p[i]} << (8 * i);
	return v;
}

Bytes read_file(const char *name) {
	std::ifstream in(name, std::ios::binary);
	if (!in) {
		std::fprintf(stderr, "can't read %s\n", name);
		std::exit(2);
	}
	return Bytes(std::istreambuf_iterator<char>(in), {});
}

// The data behind the header of every tuple.
std::vector<Bytes> tuples(const Bytes &file) {
	std::vector<Bytes> found;
	for (size_t page = 0; page + kPage <= file.size(); page += kPage) {
		const size_t lower = number(&file[page + 12], 2);
		for (size_t at = kPageHeader; at + 4 <= lower && lower <= kPage; at += 4) {
			const uint32_t item = number(&file[page + at], 4);
			const size_t offset = item & 0x7fff;
			const size_t length = item >> 17;
			if (length < 24 || offset + length > kPage)
				continue;
			const size_t header = file[page + offset + 22];
			if (header < length)
				found.emplace_back(&file[page + offset + header], &file[page + offset] + length);
		}
	}
	return found;
}

// Prints the texts if the bytes are a dictionary record.
void print_texts(const Bytes &body) {
	CsegError err;
	CsegDict *dict;
	uint32_t count;
	if (cseg_dict_check(body.data(), body.size(), &count, &err) != CSEG_OK || count == 0 ||
		cseg_dict_new(&dict, 0, &err) != CSEG_OK)
		return;
	if (cseg_dict_add(dict, 0, body.data(), body.size(), &err) == CSEG_OK)
		for (uint32_t o = 0; o < count; o++) {
			const void *const *texts;
			if (cseg_dict_pin(dict, o >> CSEG_CONTAINER_BITS, &texts, &err) != CSEG_OK)
				break;
			uint32_t header;
			const void *text = texts[o & (CSEG_CONTAINER_SIZE - 1)];
			std::memcpy(&header, text, sizeof(header));
			std::printf("%.*s\n", static_cast<int>(header - 4), static_cast<const char *>(text) + 4);
			cseg_dict_unpin(dict, o >> CSEG_CONTAINER_BITS);
		}
	cseg_dict_free(dict);
}

void main_file(const Bytes &file) {
	for (const Bytes &t : tuples(file)) {
		const bool external = t.size() > kRecordHeader && (t[2] & 1) != 0;
		if (t.size() > kRecordHeader && t[0] == 'D' && !external)
			print_texts(Bytes(t.begin() + kRecordHeader, t.end()));
	}
}

// A chunk: value id, sequence number, bytea with a header of one byte or four.
void toast_file(const Bytes &file) {
	std::map<uint32_t, std::map<uint32_t, Bytes>> values;
	for (const Bytes &t : tuples(file)) {
		if (t.size() < 12)
			continue;
		const size_t header = (t[8] & 1) != 0 ? 1 : 4;
		values[number(&t[0], 4)][number(&t[4], 4)] = Bytes(t.begin() + 8 + static_cast<long>(header), t.end());
	}
	for (const auto &[id, chunks] : values) {
		Bytes body;
		for (const auto &[sequence, chunk] : chunks)
			body.insert(body.end(), chunk.begin(), chunk.end());
		print_texts(body);
	}
}

} // namespace

int main(int argc, char **argv) {
	if (argc != 3) {
		std::fprintf(stderr, "usage: raw_identities MAIN TOAST\n");
		return 2;
	}
	main_file(read_file(argv[1]));
	toast_file(read_file(argv[2]));
	return 0;
}
