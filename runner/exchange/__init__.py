"""Teacher records to and from other programs, and the command `runner-records`.

`formats` reads what a producer writes as one stream of scored sequences, `segments`
finds the rows that each of them is of, by its ids, `spool` collects the scores of rows
in any order, and `importing` writes records of them.
"""
