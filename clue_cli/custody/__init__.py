"""Proof that results and evidence are what they were: the manifest that a run writes, and its verification.

listing.py    one file as hashdeep and DFXML list it: written and read, both as streams
observed.py   what a run saw of the evidence: size, time of the last change and hashes, before and after
manifest.py   writes the manifest files of a results folder
additions.py  what clue wrote into the folder afterwards
folder.py     the results folder compared with its manifest
places.py     which recorded evidence a path stands for
evidence.py   the evidence compared with what was read of it
signature.py, timestamp.py   over bytes: a signature in minisign's format, and an authority's time stamp (RFC 3161)
attestation.py   both of them over the manifest of a results folder: made and checked
former.py     the signed manifests of earlier runs
verify.py     all of it, and what is said about it
"""
