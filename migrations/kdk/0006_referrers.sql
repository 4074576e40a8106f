-- What is attached to a manifest, in the order in which it is listed: a page costs what is on it,
-- however much is attached.
CREATE INDEX kdk_manifests_referrers ON public.manifests
    (top_level_namespace_id, repository_id, subject_id, digest) WHERE subject_id IS NOT NULL;
