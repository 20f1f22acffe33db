-- Which work goes first, and which hints ask for a look that leaves nothing out.
ALTER TABLE work ADD COLUMN lane BIGINT NOT NULL DEFAULT 0;
ALTER TABLE work ADD COLUMN thorough BIGINT NOT NULL DEFAULT 0;
DROP INDEX work_run_at;
CREATE INDEX work_due ON work (lane, run_at, key) WHERE requested > done;

-- What GitLab's list of open merge requests said when each was last asked to be looked at.
CREATE TABLE listed (
    project_id BIGINT NOT NULL,
    mr_iid BIGINT NOT NULL,
    fingerprint TEXT NOT NULL,
    PRIMARY KEY (project_id, mr_iid)
);
