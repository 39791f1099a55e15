"""What is thrown at clue: generators of broken and hostile files, for the tests of any package.

`pictures` makes sound pictures of every format, `broken_pictures` and `archives` make what is wrong with them, and
the modules named `*_decoder` are decoder processes that misbehave.
"""
