-- Letters that belong to no execution do not leave with one: what is old is found by when it failed.

CREATE INDEX dead_letters_of_none ON dead_letters (at) WHERE execution = '';
