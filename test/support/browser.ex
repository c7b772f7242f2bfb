defmodule PowRedisCache.Browser do
  @moduledoc "A browser: sends GET requests with its cookies over HTTP/1.1, and takes cookies of responses."

  defstruct cookies: %{}

  @deadline 60_000

  @doc "Sends a request to a port of this host. Returns its status, its body, and the cookies that it sets."
  def get(browser, port, path, headers \\ []) do
    {:ok, socket} = :gen_tcp.connect(~c"127.0.0.1", port, [:binary, active: false])
    cookies = Enum.map_join(browser.cookies, "; ", fn {name, value} -> "#{name}=#{value}" end)

    lines =
      for {name, value} <- [{"host", "x"}, {"cookie", cookies} | headers],
          do: "#{name}: #{value}\r\n"

    :ok = :gen_tcp.send(socket, ["GET ", path, " HTTP/1.1\r\n", lines, "\r\n"])
    [head, body] = socket |> receive_all("") |> String.split("\r\n\r\n", parts: 2)
    :gen_tcp.close(socket)
    ["HTTP/1.1 " <> <<status::binary-3>> <> _reason | lines] = String.split(head, "\r\n")

    set = for "set-cookie: " <> cookie <- lines, do: parse(cookie)
    %{status: String.to_integer(status), body: body, cookies: set}
  end

  @doc "The browser after it has taken the cookies of responses, in this order."
  def take(browser, responses) do
    cookies =
      for %{cookies: set} <- List.wrap(responses), cookie <- set, reduce: browser.cookies do
        cookies -> put(cookies, cookie)
      end

    %{browser | cookies: cookies}
  end

  defp put(cookies, {name, _value, :delete}), do: Map.delete(cookies, name)
  defp put(cookies, {name, value, :keep}), do: Map.put(cookies, name, value)

  defp parse(cookie) do
    [pair | attributes] = String.split(cookie, "; ")
    [name, value] = String.split(pair, "=", parts: 2)
    {name, value, if("max-age=0" in attributes, do: :delete, else: :keep)}
  end

  defp receive_all(socket, received) do
    case :gen_tcp.recv(socket, 0, @deadline) do
      {:ok, data} -> receive_all(socket, received <> data)
      {:error, :closed} -> received
    end
  end
end
