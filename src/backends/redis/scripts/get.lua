return { epoch, rev, stamp, 'ok', read(ARGV[4]) }
