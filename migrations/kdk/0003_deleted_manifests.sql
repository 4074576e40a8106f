-- As GitLab's function: the subject of what was deleted is queued without a look whether it is being
-- deleted by the same statement. Then the queue's foreign key fails, and with it the statement:
-- whoever deletes a subject must say first what becomes of what is attached to it. With the body of
-- before, GitLab's registry took signatures along without a word.
CREATE OR REPLACE FUNCTION public.gc_track_deleted_manifests() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.configuration_blob_digest IS NOT NULL THEN
        INSERT INTO public.gc_blob_review_queue (digest, review_after, event)
        VALUES (OLD.configuration_blob_digest, public.gc_review_after('manifest_delete'),
            'manifest_delete')
        ON CONFLICT (digest)
            DO UPDATE SET review_after = EXCLUDED.review_after, event = EXCLUDED.event;
    END IF;
    IF OLD.subject_id IS NOT NULL THEN
        INSERT INTO public.gc_manifest_review_queue
            (top_level_namespace_id, repository_id, manifest_id, review_after, event)
        VALUES (OLD.top_level_namespace_id, OLD.repository_id, OLD.subject_id,
            public.gc_review_after('manifest_delete'), 'manifest_delete')
        ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
            DO UPDATE SET review_after = EXCLUDED.review_after, event = EXCLUDED.event;
    END IF;
    RETURN NULL;
END
$$;
