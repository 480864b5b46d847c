"""What may be asked: the schema of every question, once.

Each verb has a `schema.Schema`: its fields with unit, bounds, vocabulary, help and example, and a reader that makes the
frozen request which the studies take. Options of the command line, keywords of Python and bodies of HTTP are views of
it; a problem names a field, and each of these edges spells it in its own way (`fields.Edge`). One module a family of
verbs; nothing heavy is imported until a question is read.
"""
