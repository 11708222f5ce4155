-- migrate:up
-- Two private buckets. Outputs are written by the backend's secret key and read by signed URL; a user may look at, but
-- not write, their own, once they are charged for. Uploads are a user's own pictures.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values
  ('outputs', 'outputs', false, 52428800, array['image/png', 'image/jpeg', 'image/webp', 'image/gif', 'video/mp4']),
  ('uploads', 'uploads', false, 10485760, array['image/png', 'image/jpeg', 'image/webp'])
on conflict (id) do update
  set public = excluded.public,
      file_size_limit = excluded.file_size_limit,
      allowed_mime_types = excluded.allowed_mime_types;

-- a file is there before its generation is settled, and stays where one that was poisoned is refunded by hand
create policy "own outputs can be read" on storage.objects for select to authenticated
  using (
    bucket_id = 'outputs' and (storage.foldername(name))[1] = (select auth.uid())::text
    and (storage.foldername(name))[2] in (
      select id::text from public.generations
       where status = 'succeeded')
  );
create policy "own uploads can be read" on storage.objects for select to authenticated
  using (bucket_id = 'uploads' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "own uploads can be added" on storage.objects for insert to authenticated
  with check (bucket_id = 'uploads' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "own uploads can be removed" on storage.objects for delete to authenticated
  using (bucket_id = 'uploads' and (storage.foldername(name))[1] = (select auth.uid())::text);

-- migrate:down
