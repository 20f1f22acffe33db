-- The checks that are being asked of previews: what came of them until a look has taken it up.

CREATE TABLE check_runs (
    project_id BIGINT NOT NULL,
    mr_iid BIGINT NOT NULL,
    preview TEXT NOT NULL,
    run TEXT NOT NULL,
    results TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    lease_owner TEXT NOT NULL,
    PRIMARY KEY (project_id, mr_iid, preview)
);
