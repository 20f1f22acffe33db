-- Removals that may be a mistake that hits many at once: wanted (gone_at = 0), or done at gone_at.

CREATE TABLE removals (
    project_id BIGINT NOT NULL,
    mr_iid BIGINT NOT NULL,
    cause TEXT NOT NULL,
    reason TEXT NOT NULL,
    since BIGINT NOT NULL,
    released BIGINT NOT NULL,
    gone_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, mr_iid, gone_at)
);
CREATE INDEX removals_gone_at ON removals (gone_at);
