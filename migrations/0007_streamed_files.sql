-- Files are stored as they come, so their size and digest are known at the end. A row without them is of a file that is being written, or
-- whose writer died.
alter table assets alter column bytes drop not null;
alter table assets alter column sha256 drop not null;
alter table assets add constraint assets_whole_or_begun check ((bytes is null) = (sha256 is null));
