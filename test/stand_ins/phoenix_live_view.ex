defmodule Phoenix.LiveView.Socket do
  @moduledoc "Stands in for LiveView's socket where LiveView is not available."

  defstruct assigns: %{}, endpoint: nil, redirected: nil
end

defmodule Phoenix.Component do
  @moduledoc "Stands in for LiveView's assigns where LiveView is not available."

  def assign_new(socket, key, function) do
    if is_map_key(socket.assigns, key),
      do: socket,
      else: %{socket | assigns: Map.put(socket.assigns, key, function.())}
  end
end

defmodule Phoenix.LiveView do
  @moduledoc "Stands in for LiveView's redirects where LiveView is not available."

  def redirect(socket, options), do: %{socket | redirected: {:redirect, Map.new(options)}}
end
