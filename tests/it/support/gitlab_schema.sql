-- Turns a database that kdk made into one as GitLab's registry makes it: nothing of our own, and
-- functions with the effects that GitLab's have (not their text).

DROP SCHEMA kdk CASCADE;
DROP INDEX public.manifests_that_wait_for_their_subject;
DROP INDEX public.kdk_manifests_referrers;

CREATE OR REPLACE FUNCTION public.gc_review_after(e text) RETURNS timestamp with time zone
LANGUAGE sql VOLATILE AS $$
    SELECT now() + make_interval(secs => 5 + floor(random() * 61)) + COALESCE(
        (SELECT value FROM public.gc_review_after_defaults WHERE event = e), interval '1 day')
$$;

-- What a queue's row becomes whenever it is written.
CREATE OR REPLACE FUNCTION public.gc_track_blob_uploads() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE public.gc_blob_review_queue SET review_after = gc_review_after('blob_upload'), event = 'blob_upload'
        WHERE digest = NEW.digest;
    IF NOT FOUND THEN
        INSERT INTO public.gc_blob_review_queue (digest, review_after, event)
            VALUES (NEW.digest, gc_review_after('blob_upload'), 'blob_upload')
            ON CONFLICT (digest) DO UPDATE SET event = 'blob_upload', review_after = gc_review_after('blob_upload');
    END IF;
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION public.gc_track_manifest_uploads() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.gc_manifest_review_queue (top_level_namespace_id, repository_id, manifest_id,
            review_after, event)
        VALUES (NEW.top_level_namespace_id, NEW.repository_id, NEW.id,
            gc_review_after('manifest_upload'), 'manifest_upload')
        ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
        DO UPDATE SET (review_after, event) = (gc_review_after('manifest_upload'), 'manifest_upload');
    RETURN NEW;
END
$$;

CREATE OR REPLACE FUNCTION public.gc_track_configuration_blobs() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.gc_blobs_configurations (top_level_namespace_id, repository_id, manifest_id, digest)
        SELECT NEW.top_level_namespace_id, NEW.repository_id, NEW.id, NEW.configuration_blob_digest
        WHERE NEW.configuration_blob_digest IS NOT NULL
        ON CONFLICT DO NOTHING;
    RETURN NEW;
END
$$;

-- The child is queued without a look whether it goes by the same statement.
CREATE OR REPLACE FUNCTION public.gc_track_deleted_manifest_lists() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    due timestamptz := gc_review_after('manifest_list_delete');
BEGIN
    INSERT INTO public.gc_manifest_review_queue (top_level_namespace_id, repository_id, manifest_id,
            review_after, event)
        VALUES (OLD.top_level_namespace_id, OLD.repository_id, OLD.child_id, due, 'manifest_list_delete')
        ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
        DO UPDATE SET review_after = due, event = 'manifest_list_delete';
    RETURN NULL;
END
$$;

-- One by one, in order: no two statements lock rows of the queue the other way round.
CREATE OR REPLACE FUNCTION public.gc_track_deleted_layers() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
    gone bytea;
BEGIN
    FOR gone IN SELECT digest FROM old_table GROUP BY digest ORDER BY digest LOOP
        INSERT INTO public.gc_blob_review_queue (digest, review_after, event)
            VALUES (gone, gc_review_after('layer_delete'), 'layer_delete')
            ON CONFLICT (digest) DO UPDATE SET review_after = EXCLUDED.review_after, event = 'layer_delete';
    END LOOP;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION public.gc_track_deleted_tags() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM public.manifests AS m WHERE m.id = OLD.manifest_id
            AND m.repository_id = OLD.repository_id AND m.top_level_namespace_id = OLD.top_level_namespace_id) THEN
        INSERT INTO public.gc_manifest_review_queue (top_level_namespace_id, repository_id, manifest_id,
                review_after, event)
            VALUES (OLD.top_level_namespace_id, OLD.repository_id, OLD.manifest_id,
                gc_review_after('tag_delete'), 'tag_delete')
            ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
            DO UPDATE SET review_after = EXCLUDED.review_after, event = 'tag_delete';
    END IF;
    RETURN NULL;
END
$$;

-- A tag that is set to where it is already queues its manifest, too.
CREATE OR REPLACE FUNCTION public.gc_track_switched_tags() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.gc_manifest_review_queue (top_level_namespace_id, repository_id, manifest_id,
            review_after, event)
        VALUES (OLD.top_level_namespace_id, OLD.repository_id, OLD.manifest_id,
            gc_review_after('tag_switch'), 'tag_switch')
        ON CONFLICT (top_level_namespace_id, repository_id, manifest_id)
        DO UPDATE SET review_after = EXCLUDED.review_after, event = 'tag_switch';
    RETURN NULL;
END
$$;
