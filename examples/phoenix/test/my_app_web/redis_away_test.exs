defmodule MyAppWeb.RedisAwayTest do
  use MyAppWeb.ConnCase

  import MyAppWeb.Logins

  setup do
    [user: register("ann")]
  end

  test "a page says when to try again, and the user is still logged in afterwards", %{user: user} do
    device = log_in(user)
    stop_redis_cache()

    {503, headers, page} = assert_error_sent(503, fn -> get(device, "/") end)
    assert {"retry-after", "10"} in headers
    assert page =~ "We will be back soon"

    start_redis_cache()
    assert logged_in?(device, user)
  end

  test "so does a page that is rendered before Pow calls Redis again", %{user: user} do
    device = log_in(user, keep: true)
    expire_sessions(user)

    # The token has been read. The new session is written with the response.
    rendering = [:phoenix, :router_dispatch, :start]
    :telemetry.attach(__MODULE__, rendering, fn _, _, _, _ -> stop_redis_cache() end, nil)
    on_exit(fn -> :telemetry.detach(__MODULE__) end)
    {503, headers, page} = assert_error_sent(503, fn -> get(device, "/") end)

    assert {"retry-after", "10"} in headers
    assert page =~ "We will be back soon"

    :telemetry.detach(__MODULE__)
    start_redis_cache()
    assert logged_in?(device, user)
  end

  test "a page of a visitor needs no Redis" do
    stop_redis_cache()
    assert build_conn() |> get("/") |> html_response(200) =~ "Nobody is logged in"
  end

  test "an error of the app is not one of Redis" do
    conn = put_req_header(build_conn(), "accept", "application/json")
    {406, headers, _page} = assert_error_sent(406, fn -> get(conn, "/") end)
    refute List.keymember?(headers, "retry-after", 0)
  end

  test "the instance is ready while it can reach Redis" do
    assert build_conn() |> get("/ready") |> response(200) == "ready"
    stop_redis_cache()
    assert build_conn() |> get("/ready") |> response(503) == "Redis cannot be reached"
  end

  defp stop_redis_cache do
    on_exit(&start_redis_cache/0)
    :ok = Supervisor.terminate_child(MyApp.Supervisor, PowRedisCache)
  end

  defp start_redis_cache, do: Supervisor.restart_child(MyApp.Supervisor, PowRedisCache)
end
