server = PowRedisCache.RedisServer.start!()
:persistent_term.put(PowRedisCache.RedisServer, server)
ExUnit.after_suite(fn _results -> PowRedisCache.RedisServer.stop(server) end)
Logger.configure(level: :warning)
# What takes long runs where bin/test-matrix asks for it.
exclude = if System.get_env("POW_REDIS_CACHE_LONG"), do: [], else: [:long]
ExUnit.start(capture_log: true, exclude: exclude)
