# Prints how fast the near cache is beside `:ets.lookup/2`, and what memory it takes after a million sessions
# and users were read:
#
#     MIX_ENV=bench mix run bench/near_cache.exs [SESSIONS]

alias PowRedisCache.Bench.NearCache

Logger.configure(level: :warning)
sessions = System.argv() |> List.first("1000000") |> String.to_integer()

IO.puts("record   callers  reader        median ns    reads a second")

for {record, callers, name, median, rate} <- NearCache.hits(2_000) do
  IO.puts([
    String.pad_trailing("#{record}", 9),
    String.pad_trailing("#{callers}", 9),
    String.pad_trailing(name, 12),
    String.pad_leading("#{median}", 11),
    String.pad_leading("#{rate}", 18)
  ])
end

result = NearCache.memory(sessions)

IO.puts("""

#{sessions} sessions and users read:
resident memory  at most #{result.bytes} bytes more, #{Float.round(result.bytes / result.max_bytes, 2)} of :max_bytes
near cache       #{inspect(result.near_cache)}\
""")
