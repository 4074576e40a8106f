-- GitLab's registry refuses configurations of types that it expects to be there and are not.
-- Databases that kdk 0.1 made lack these; no id changes, and none is used up where they are there.
INSERT INTO public.media_types (media_type)
SELECT x FROM unnest(ARRAY[
    'appliciation/vnd.sylabs.sif.layer.tar',
    'binary/octet-stream',
    'text/plain; charset=utf-8',
    '/application/vnd.acme.rocket.config',
    'text/html; charset=utf-8'
]) AS x
WHERE NOT EXISTS (SELECT FROM public.media_types AS t WHERE t.media_type = x);
