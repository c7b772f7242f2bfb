defmodule PowRedisCache.NearCacheStopTest do
  # A VM that stands still, as on a host that sleeps.
  use PowRedisCache.Case, async: true

  @moduletag :integration
  @moduletag :standalone
  @moduletag server: []

  alias PowRedisCache.{Build, HoldingProxy, Processes}

  # That of `near_reader.exs`.
  @max_staleness 100

  test "what was deleted while the VM stood still is not served afterwards", context do
    folder = Build.folder!()
    # So that the VM does not learn of it before it reads.
    proxy = HoldingProxy.start!(context.server.port)
    vm = start_reader(context, HoldingProxy.url(proxy), folder)
    on_exit(fn -> Processes.stop(vm) end)
    wait_for(folder, "hits")
    Processes.pause(vm)
    HoldingProxy.hold(proxy, direction: :to_client)
    PowRedisCache.delete(context.config, "key")
    Process.sleep(@max_staleness)
    File.touch!(Path.join(folder, "was_stopped"))
    Processes.resume(vm)
    wait_for(folder, "reads")
    HoldingProxy.heal(proxy)
    Wait.until(fn -> not Processes.alive?(vm) end)
    assert File.read!(Path.join(folder, "read")) == ":not_found"
  end

  defp start_reader(context, url, folder) do
    ebin = Application.app_dir(:pow_redis_cache, "ebin")
    reader = ["test/fixtures/near_reader.exs", url, context.namespace, folder]
    Processes.start!("elixir", ["-pa", ebin | reader], Path.join(folder, "output"))
  end

  defp wait_for(folder, file), do: Wait.until(fn -> File.exists?(Path.join(folder, file)) end)
end
