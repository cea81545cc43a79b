"""Room: storage. The only place that writes study data or SQL.

`sealed` frames bytes, `keys` and `datakeys` hold what opens them, `spool` takes what comes in, `objects` keeps what is
made of it, `ledger` remembers; nothing here knows what a Data Set means.
"""
