/*
 * views.h
 *    Building a view, with the marks that tell whether it still holds. Private to the store.
 */
#ifndef CSEG_STORE_VIEWS_H
#define CSEG_STORE_VIEWS_H

#include "store/pages.h"
#include "store/store.h"

extern StoreView *view_build(Relation rel, Snapshot snapshot, MemoryContext parent, PageMarks *marks);
/* It holds more than when it was kept. */
extern void view_resized(StoreView *view);

#endif /* CSEG_STORE_VIEWS_H */
