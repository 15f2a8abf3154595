-- Dead letters by what they have in common, and those that are set aside: `lot` says why, and is empty for others.

ALTER TABLE dead_letters ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN lot TEXT NOT NULL DEFAULT '';
CREATE INDEX dead_letters_by_group ON dead_letters (state, fingerprint, lot, at);
