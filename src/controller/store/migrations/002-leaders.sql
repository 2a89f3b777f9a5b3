-- Several controllers on one database: who leads, under which epoch, and where the others are.

ALTER TABLE virga.site
    -- With the number in "epoch": commits only under exactly this pair. Empty: nobody has claimed that number.
    ADD COLUMN epoch_id      text NOT NULL DEFAULT '',
    -- The controller that leads.
    ADD COLUMN leader_id     uuid,
    -- SHA-256 (hex) of the site's certificate authority: a controller with another one, or none, must not lead.
    ADD COLUMN authority_pin text,
    -- Other facts about the site: lease profile, hold, first voters, what happens to guests of a host that leaves.
    ADD COLUMN facts         json NOT NULL DEFAULT '{}';

-- The controllers of the site, as each says of itself. No leader is needed to write here, and nothing is decided by it.
CREATE TABLE virga.controller (
    id                       uuid PRIMARY KEY,
    name                     text NOT NULL,
    -- Where agents and clients reach it, an array of https:// addresses.
    urls                     json NOT NULL,
    seen_at                  timestamptz NOT NULL
);
