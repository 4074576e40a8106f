-- For a configuration that is too large to be kept, GitLab's registry writes JSON's null, and takes
-- SQL's for a fault of its own on every read of the image.
UPDATE public.manifests SET configuration_payload = 'null'
WHERE configuration_blob_digest IS NOT NULL AND configuration_payload IS NULL;
