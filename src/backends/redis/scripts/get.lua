return answer('ok', read(ARGV[4]))
