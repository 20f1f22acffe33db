-- One text for SQLite and PostgreSQL: times are Unix milliseconds (BIGINT), documents are JSON text.

CREATE TABLE deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    event TEXT NOT NULL,
    key TEXT,
    at BIGINT NOT NULL,
    outcome TEXT NOT NULL
);
CREATE INDEX deliveries_at ON deliveries (at);

CREATE TABLE work (
    key TEXT NOT NULL PRIMARY KEY,
    run_at BIGINT NOT NULL,
    requested BIGINT NOT NULL,
    done BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    lease_owner TEXT,
    lift BIGINT NOT NULL,
    last_error TEXT
);
CREATE INDEX work_run_at ON work (run_at);

CREATE TABLE projects (
    id BIGINT NOT NULL PRIMARY KEY,
    path TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);

CREATE TABLE previews (
    project_id BIGINT NOT NULL,
    mr_iid BIGINT NOT NULL,
    preview TEXT NOT NULL,
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    source_branch TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (project_id, mr_iid, preview)
);

CREATE TABLE history (
    id TEXT NOT NULL PRIMARY KEY,
    project_id BIGINT NOT NULL,
    mr_iid BIGINT NOT NULL,
    preview TEXT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX history_preview ON history (project_id, mr_iid, preview, id);
CREATE INDEX history_at ON history (at);

CREATE TABLE meta (
    key TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
