"""Results folders in an object store, where nothing can be appended, renamed or locked.

    PREFIX/records.jsonl       the log as of the last run that came to its end
    PREFIX/records.parts/…     what runs have added since, in numbered objects that are never changed (`segments`)
    PREFIX/.clue.lock          who writes there, with a sign of life (`lock`)
    PREFIX/…                   everything else as in a local folder

The log and what is made from it are in a local folder of the cache while a run goes on; pictures go from memory to the
store (`uploads`). The store is the only truth: a run begins with what the store holds, on whatever machine.
"""
