// guard.hpp
//    The boundary: turns every exception into a code and a message.
//
// The only catch (...) of the project is here. Every extern "C" function of the core that can fail runs its body in
// guard(), so that no exception ever reaches a C frame.
#pragma once

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "bytes.hpp"

namespace cseg {

inline CsegCode fail(CsegError *err, CsegCode code, const char *msg) noexcept {
	err->code = code;
	const size_t n = std::min(std::strlen(msg), sizeof err->msg - 1);
	std::memcpy(err->msg, msg, n);
	err->msg[n] = '\0';
	return code;
}

template <class F> CsegCode guard(CsegError *err, F &&body) noexcept {
	try {
		body();
		return CSEG_OK;
	} catch (const Corrupt &e) {
		return fail(err, CSEG_CORRUPT, e.what());
	} catch (const Limit &e) {
		return fail(err, CSEG_LIMIT, e.what());
	} catch (const Cancelled &) {
		return fail(err, CSEG_CANCELLED, "cancelled");
	} catch (const std::length_error &e) {
		return fail(err, CSEG_LIMIT, e.what());
	} catch (const std::bad_alloc &) {
		return fail(err, CSEG_NO_MEMORY, "out of memory");
	} catch (const std::exception &e) {
		return fail(err, CSEG_BUG, e.what());
	} catch (...) {
		return fail(err, CSEG_BUG, "unknown exception");
	}
}

inline void check_stop(const CsegStop *stop) {
	if (stop != nullptr && (*stop->cancel != 0 || *stop->terminate != 0))
		throw Cancelled();
}

} // namespace cseg
