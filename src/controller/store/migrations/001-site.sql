-- The state of one site. Every writer locks the single row of virga.site first, so commits happen one after the other.

CREATE TABLE virga.site (
    one                   boolean PRIMARY KEY DEFAULT true CHECK (one),
    id                    uuid NOT NULL,
    name                  text NOT NULL,
    -- Rises with every leader; commits under a lower one are refused.
    epoch                 bigint NOT NULL CHECK (epoch >= 0),
    -- Rises by one with every commit.
    revision              bigint NOT NULL CHECK (revision >= 0),
    -- Number of the newest event.
    event_seq             bigint NOT NULL CHECK (event_seq >= 0),
    -- Watches from before this revision cannot resume: the tombstones from then are gone.
    oldest_tombstone      bigint NOT NULL CHECK (oldest_tombstone >= 0),
    -- Set by a restore until a person has reviewed it; milliseconds since 1970.
    review_restored_at    bigint,
    review_backup_at      bigint,
    CHECK ((review_restored_at IS NULL) = (review_backup_at IS NULL))
);

-- The document is kept as json, not jsonb: exactly the text that was written comes back.
CREATE TABLE virga.resource (
    kind                  text NOT NULL,
    id                    uuid NOT NULL,
    name                  text NOT NULL,
    owner                 text NOT NULL,
    community             text NOT NULL,
    revision              bigint NOT NULL,
    doc                   json NOT NULL,
    PRIMARY KEY (kind, id),
    -- Deferrable: two objects may swap their names in one statement.
    UNIQUE (kind, name) DEFERRABLE INITIALLY IMMEDIATE
);

-- Addresses in use, kept from the guests' cards within the same transaction: one address, one guest, always.
CREATE TABLE virga.address (
    network_id            uuid NOT NULL,
    address               inet NOT NULL,
    guest_id              uuid NOT NULL,
    PRIMARY KEY (network_id, address)
);
CREATE INDEX address_guest ON virga.address (guest_id);

-- Objects that are gone, for watches that resume.
CREATE TABLE virga.tombstone (
    kind                  text NOT NULL,
    id                    uuid NOT NULL,
    name                  text NOT NULL,
    revision              bigint NOT NULL,
    -- Milliseconds since 1970.
    gone_at               bigint NOT NULL,
    PRIMARY KEY (kind, id)
);
CREATE INDEX tombstone_revision ON virga.tombstone (revision);

CREATE TABLE virga.event (
    seq                   bigint PRIMARY KEY,
    -- Milliseconds since 1970.
    event_at              bigint NOT NULL,
    type                  text NOT NULL,
    severity              text NOT NULL,
    subject_kind          text NOT NULL,
    subject_id            text NOT NULL,
    subject_name          text NOT NULL,
    message               text NOT NULL,
    who                   text NOT NULL,
    reason                text,
    cause                 text,
    evidence              json
);
CREATE INDEX event_time ON virga.event (event_at);
CREATE INDEX event_subject ON virga.event (subject_id, seq);
CREATE INDEX event_type ON virga.event (type, seq);

CREATE TABLE virga.idempotency (
    who                   text NOT NULL,
    key                   text NOT NULL,
    request_hash          text NOT NULL,
    created               json NOT NULL,
    -- Milliseconds since 1970.
    expires_at            bigint NOT NULL,
    PRIMARY KEY (who, key)
);
CREATE INDEX idempotency_expiry ON virga.idempotency (expires_at);
