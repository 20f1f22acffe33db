-- The deploy that a CI job asked for last, one for each preview. A job of a newer pipeline takes the place of an older one's.

CREATE TABLE job_orders (
    project_id BIGINT NOT NULL,
    mr_iid BIGINT NOT NULL,
    preview TEXT NOT NULL,
    id TEXT NOT NULL,
    pipeline_id BIGINT NOT NULL,
    job_id BIGINT NOT NULL,
    upload TEXT NOT NULL,
    document TEXT NOT NULL,
    refused TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (project_id, mr_iid, preview)
);
