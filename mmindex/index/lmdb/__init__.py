"""The LMDB file of an index: environments, transactions, locks and pages."""
