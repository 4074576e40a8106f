-- A number for each repository that changes with every deletion in it and every move of a tag, in the
-- same transaction. Who has read something and finds the number as it was need not read it again:
-- manifests are answered from memory, however many servers change the database, GitLab's too.
--
-- By chance, not counted: in a database that was restored the same number stands for the same.
CREATE TABLE kdk.repository_versions (
    repository_id bigint NOT NULL PRIMARY KEY,
    version bigint NOT NULL
) WITH (fillfactor = 70);
GRANT SELECT ON kdk.repository_versions TO PUBLIC;

CREATE FUNCTION kdk.new_version() RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT (random() * 4503599627370496)::bigint
$$;

INSERT INTO kdk.repository_versions (repository_id, version)
SELECT id, kdk.new_version() FROM public.repositories;

-- As their owner: other registries' roles may have no rights here.
CREATE FUNCTION kdk.note_repository() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    INSERT INTO kdk.repository_versions (repository_id, version) VALUES (NEW.id, kdk.new_version())
    ON CONFLICT (repository_id) DO UPDATE SET version = EXCLUDED.version;
    RETURN NULL;
END
$$;

CREATE FUNCTION kdk.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    UPDATE kdk.repository_versions SET version = kdk.new_version() WHERE repository_id = OLD.repository_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER kdk_note_repository AFTER INSERT ON public.repositories
    FOR EACH ROW EXECUTE FUNCTION kdk.note_repository();
CREATE TRIGGER kdk_note_deleted_manifest AFTER DELETE ON public.manifests
    FOR EACH ROW EXECUTE FUNCTION kdk.note_change();
CREATE TRIGGER kdk_note_deleted_blob AFTER DELETE ON public.repository_blobs
    FOR EACH ROW EXECUTE FUNCTION kdk.note_change();
CREATE TRIGGER kdk_note_deleted_tag AFTER DELETE ON public.tags
    FOR EACH ROW EXECUTE FUNCTION kdk.note_change();
CREATE TRIGGER kdk_note_moved_tag AFTER UPDATE OF manifest_id ON public.tags
    FOR EACH ROW WHEN (OLD.manifest_id IS DISTINCT FROM NEW.manifest_id) EXECUTE FUNCTION kdk.note_change();
