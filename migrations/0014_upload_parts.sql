-- Large files may come in parts, each a file of its upload until they are put together.
alter table assets add column part integer;
alter table assets add constraint assets_part_of_upload check (part is null or (part >= 1 and upload_id is not null));
