-- Manifests that name a subject and are not attached to it: they came first, or it was deleted since.
-- What else could tell them from the rest differs between registries: GitLab's leaves their type
-- empty where the configuration has it.
CREATE INDEX manifests_that_wait_for_their_subject
    ON public.manifests (top_level_namespace_id, repository_id)
    WHERE subject_id IS NULL AND position('"subject"'::bytea IN payload) > 0;
