/*
 * exchange.h
 *    The bytes of exported instances: a group of them, with a dictionary of its own. README.md has the table.
 */
#ifndef CSEG_EXCHANGE_H
#define CSEG_EXCHANGE_H

#include "postgres.h"

#define EXCHANGE_KIND 'X'
#define EXCHANGE_VERSION 1
#define EXCHANGE_HEADER_BYTES 8

enum
{
	EXCHANGE_HAS_NAME = 1,
	EXCHANGE_HAS_BY = 2,
	EXCHANGE_HAS_SCHEDULE = 4,
	EXCHANGE_HAS_CREATED = 8
};

#endif /* CSEG_EXCHANGE_H */
