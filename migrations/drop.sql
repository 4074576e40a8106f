-- Removes everything that schema.sql made, and nothing else.
--
-- Run it by itself, NOT inside a transaction: it commits after each table. PostgreSQL locks every
-- object it drops until the commit, triggers and constraints too; that is 13,550 here, and the
-- default settings have room for about 8,000. So it can be interrupted, hence: what says "this
-- database is migrated" goes first, and running it again removes what is left.
--
-- No CASCADE: it stops at a table that something foreign (a view, say) depends on.

DO $$
DECLARE
    name text;
BEGIN
    -- Each before the tables that it refers to. Partitions, indexes, triggers and identity
    -- sequences go with their table.
    FOREACH name IN ARRAY ARRAY[
        'schema_migrations', 'post_deploy_schema_migrations',
        'batched_background_migration_jobs', 'batched_background_migrations',
        'import_statistics',
        'gc_review_after_defaults', 'gc_tmp_blobs_manifests',
        'gc_blob_review_queue', 'gc_manifest_review_queue',
        'gc_blobs_layers', 'gc_blobs_configurations',
        'tags', 'manifest_references', 'layers', 'manifests', 'repository_blobs', 'blobs',
        'media_types', 'repositories', 'top_level_namespaces'
    ] LOOP
        EXECUTE format('DROP TABLE IF EXISTS public.%I', name);
        COMMIT;
    END LOOP;

    DROP SEQUENCE IF EXISTS public.blobs_id_seq;

    DROP FUNCTION IF EXISTS
        public.gc_track_blob_uploads(),
        public.gc_track_configuration_blobs(),
        public.gc_track_deleted_layers(),
        public.gc_track_deleted_manifest_lists(),
        public.gc_track_deleted_manifests(),
        public.gc_track_deleted_tags(),
        public.gc_track_layer_blobs(),
        public.gc_track_manifest_uploads(),
        public.gc_track_switched_tags(),
        public.gc_track_tmp_blobs_manifests(),
        public.set_media_type_id_convert_to_bigint(),
        public.gc_review_after(text);

    DROP SCHEMA IF EXISTS partitions;

    -- Of kdk/*.sql, and what is made when the first repository is renamed.
    DROP TABLE IF EXISTS kdk.repository_versions;
    DROP FUNCTION IF EXISTS kdk.note_repository(), kdk.note_change(), kdk.new_version();
    DROP TABLE IF EXISTS kdk.migrations;
    DROP TABLE IF EXISTS kdk.repository_leases;
    DROP SCHEMA IF EXISTS kdk;
END
$$;
