return { epoch, rev, 'ok', read(ARGV[4]) }
