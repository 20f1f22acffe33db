-- What an operator asked for, until a look has taken it up. The newest counts; its id tells it from the one before.

CREATE TABLE intents (
    project_id BIGINT NOT NULL,
    mr_iid BIGINT NOT NULL,
    preview TEXT NOT NULL,
    id TEXT NOT NULL,
    intent TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (project_id, mr_iid, preview)
);
