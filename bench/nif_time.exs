# Prints how long native functions take by the size of their arguments:
#
#     MIX_ENV=bench mix run bench/nif_time.exs

alias PowRedisCache.Bench.NifTime

NifTime.run() |> NifTime.table() |> IO.write()
