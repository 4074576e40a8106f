-- What may follow while a registry serves (pushes wait for a moment): indexes that only GitLab's
-- background migrations read.
--
-- As in schema.sql each partition's has a name of its own, and comes before its parent's.

-- GitLab's registry makes it when it first needs it.
CREATE TABLE IF NOT EXISTS public.post_deploy_schema_migrations (
    id text NOT NULL PRIMARY KEY,
    applied_at timestamp with time zone
);

DO $$
DECLARE
    spec text[];
BEGIN
    FOREACH spec SLICE 1 IN ARRAY ARRAY[
        ['manifests', 'on_id', '(id)'],
        ['blobs', 'on_null_id', '(id) WHERE id IS NULL']
    ] LOOP
        FOR n IN 0..63 LOOP
            EXECUTE format('CREATE INDEX %I ON partitions.%I %s',
                format('index_%s_p_%s_%s', spec[1], n, spec[2]),
                format('%s_p_%s', spec[1], n), spec[3]);
        END LOOP;
        EXECUTE format('CREATE INDEX %I ON public.%I %s',
            format('index_%s_%s', spec[1], spec[2]), spec[1], spec[3]);
    END LOOP;
END
$$;
