/** How much of the ledger a command keeps in memory. */

/** So many records tell who set a thread's TLS last. */
export const FEW_RECORDS = 64;
/** For who wants the ledger itself: of a longer run the last ones. */
export const MANY_RECORDS = 100_000;
